-- relation: applied_tiers
-- description: Which SLO tiers are applied to which model: a preset to the models it was made for, a fallback preset to
--   models that no other knows, a tier that was asked for to every model.
-- grain: one row per tier and requested model
-- requires: call spans
-- source: ours
-- reads: turns
-- visibility: internal
-- storage: table
WITH models AS (
    SELECT DISTINCT request_model AS model FROM turns WHERE kind = 'turn'
),

patterns AS (
    SELECT policy, version, tier, UNNEST(models) AS pattern FROM slo_tiers
),

fitting AS (
    SELECT DISTINCT patterns.policy, patterns.version, patterns.tier, models.model
    FROM patterns
    INNER JOIN models ON LOWER(COALESCE(models.model, '')) GLOB LOWER(patterns.pattern)
),

known AS (
    SELECT DISTINCT fitting.model
    FROM fitting
    INNER JOIN slo_tiers USING (policy, version, tier)
    WHERE NOT slo_tiers.fallback
)

SELECT
    slo_tiers.*,
    models.model,
    slo_tiers.comparable AND fitting.policy IS NOT NULL AS is_comparable
FROM slo_tiers
CROSS JOIN models
LEFT JOIN fitting
    ON fitting.policy = slo_tiers.policy
    AND fitting.version = slo_tiers.version
    AND fitting.tier = slo_tiers.tier
    AND fitting.model IS NOT DISTINCT FROM models.model
WHERE NOT slo_tiers.only_its_models
    OR (fitting.policy IS NOT NULL AND NOT (slo_tiers.fallback AND models.model IN (FROM known)))
