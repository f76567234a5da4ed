"""A tokenizer that counts as the simulated endpoint does, four bytes a token: `four_byte_tokenizer.py DIR TEXT...`.

Run by the interpreter of a peer, with the texts that it draws its prompts from: prompts that the peer cuts to a number
of tokens then have as many for the endpoint. Needs `transformers`.
"""

import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

UNKNOWN = "word"
"""Four letters as well, so that no text changes its length."""


def main(directory: str, *texts: str) -> None:
    words = {UNKNOWN: 0, "</s>": 1}
    for text in texts:
        lines = (line.strip() for line in Path(text).read_text().splitlines())
        joined = " ".join(line for line in lines if line)
        for at in range(len(joined) - 3):
            words.setdefault(joined[at : at + 4], len(words))
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Replace(Regex(r"[^\x00-\x7f]"), "?")
    # What is left over at the end of a text is no token.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\x00-\x7f]{4}"), "removed", invert=True)
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", model_max_length=10**9
    )
    fast.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    fast.save_pretrained(directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
