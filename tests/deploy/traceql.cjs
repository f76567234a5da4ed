// Parses TraceQL with the grammar of Grafana's editor. Standard input: a JSON array of queries; standard output: for each
// the text at the first error, or null. NODE_PATH names where @grafana/lezer-traceql is.

const { parser } = require("@grafana/lezer-traceql");

const queries = JSON.parse(require("fs").readFileSync(0, "utf8"));
const errors = queries.map((query) => {
  let error = null;
  parser.parse(query).iterate({
    enter(node) {
      if (node.type.isError && error === null) error = query.slice(node.from, node.to + 20) || "the end";
    },
  });
  return error;
});
process.stdout.write(JSON.stringify(errors));
