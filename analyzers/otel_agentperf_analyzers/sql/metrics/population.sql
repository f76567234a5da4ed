-- relation: population
-- description: The turns that figures of a level are taken over: those with t0 in its steady window, warm-up and drain
--   left out; of live traffic all turns. Auxiliary calls are in none.
-- grain: one row per turn
-- requires: call spans
-- source: AA-AgentPerf methodology 2026-07
-- reads: turns, level_windows
-- visibility: internal
-- storage: view
SELECT turns.*
FROM turns
WHERE turns.kind = 'turn'
    AND (
        turns.benchmark_id IS NULL
        OR (turns.trajectory_id, turns.turn_id) IN (
            SELECT (played.trajectory_id, played.turn_id)
            FROM turns AS played
            INNER JOIN level_windows
                ON level_windows.benchmark_id = played.benchmark_id
                AND level_windows.level IS NOT DISTINCT FROM played.level
            WHERE played.start_ns BETWEEN level_windows.start_ns AND level_windows.end_ns
        )
    )
