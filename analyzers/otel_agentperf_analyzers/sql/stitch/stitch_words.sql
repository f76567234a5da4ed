-- relation: stitch_words
-- description: The link keys of calls of which each can have several: tool calls and results, texts.
-- grain: one row per key
-- requires: agentperf.link.keys
-- source: ours
-- reads: stitch_calls
-- visibility: internal
-- storage: table
WITH words AS (
    SELECT call_id, words, UNNEST(STRING_SPLIT(TRIM(words), ' ')) AS word FROM stitch_calls
)

SELECT
    call_id,
    SUBSTR(word, 1, 1) AS kind,
    CASE SUBSTR(word, 1, 1)
        WHEN 't' THEN SUBSTR(word, 2, 12)
        WHEN 'r' THEN SUBSTR(word, 2, 12)
        WHEN 'A' THEN SPLIT_PART(word, '.', 2)
        WHEN 'd' THEN SUBSTR(SPLIT_PART(word, ':', 1), 2)
        ELSE SUBSTR(word, 2)
    END AS key,
    -- Of a tool call its name, of a tool's duration too.
    CASE
        WHEN SUBSTR(word, 1, 1) IN ('t', 'd') THEN SUBSTR(word, POSITION(':' IN word) + 1)
    END AS name,
    CASE WHEN SUBSTR(word, 1, 1) = 't' THEN SUBSTR(word, 14, 6) END AS digest,
    ENDS_WITH(word, '!') AS is_error,
    -- Words stand in the order of what they are of.
    POSITION(' ' || word || ' ' IN words) AS place
FROM words
WHERE SUBSTR(word, 1, 1) IN ('t', 'r', 'A', 'q', 'o', 'S', 'l', 'd')
