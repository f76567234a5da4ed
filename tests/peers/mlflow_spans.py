"""All spans of an MLflow experiment, a JSON line each: `mlflow_spans.py URL EXPERIMENT`, run by MLflow's own Python."""

import json
import sys

from mlflow import MlflowClient

client = MlflowClient(sys.argv[1])
token = None
while True:
    page = client.search_traces(locations=[sys.argv[2]], max_results=100, page_token=token)
    for trace in page:
        for span in trace.data.spans:
            print(
                json.dumps(
                    {
                        "trace_id": span.trace_id,
                        "span_id": span.span_id,
                        "parent_span_id": span.parent_id,
                        "name": span.name,
                        "start_unix_ns": span.start_time_ns,
                        "end_unix_ns": span.end_time_ns,
                        "status": str(span.status.status_code.value),
                        "attributes": span.attributes,
                    }
                )
            )
    token = page.token
    if not token:
        break
