"""An agent as they are: it offers a tool, runs what the model calls, and sends the whole conversation each time."""

from typing import Any

from openai import OpenAI

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Read a file",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
}


def work(base_url: str, task: str, turns: int) -> None:
    """So many turns on a task: the model calls the tool in every other one; the user answers the rest."""
    client = OpenAI(base_url=f"{base_url}/v1", api_key="key")
    messages: list[Any] = [
        {"role": "system", "content": f"You work on the code of {task}. " * 50},
        {"role": "user", "content": f"{task}: find the bug. " * 20},
    ]
    for turn in range(turns):
        answer = client.chat.completions.create(
            model="simulated", messages=messages, tools=[TOOL], tool_choice="none" if turn % 2 else "required"
        )
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or ():
            result = f"{task}, line {turn}\n" * 30
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        if not message.tool_calls:
            messages.append({"role": "user", "content": f"go on with step {turn}"})
