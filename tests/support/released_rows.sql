-- A ledger of the first release in the middle of its work. The code that wrote it is not here any more.

CREATE TABLE items (id bigint PRIMARY KEY, a float8 NOT NULL, b float8 NOT NULL);

INSERT INTO items SELECT n, 4 + n % 40 / 10.0, 2 + n % 7 / 3.0 FROM generate_series(1, 50) AS n;

CREATE TABLE predictions.flowers_job__flowers_v1 (id bigint PRIMARY KEY, label bigint, p0 float8, p1 float8, p2 float8, batch_id bigint NOT NULL, scored_at timestamptz NOT NULL DEFAULT now());

CREATE TABLE predictions.every_job__flowers_v1_g1 (id bigint PRIMARY KEY, label bigint, p0 float8, p1 float8, p2 float8, batch_id bigint NOT NULL, scored_at timestamptz NOT NULL DEFAULT now());

CREATE TABLE predictions.every_job__flowers_v1_g2 (id bigint PRIMARY KEY, label bigint, p0 float8, p1 float8, p2 float8, batch_id bigint NOT NULL, scored_at timestamptz NOT NULL DEFAULT now());

CREATE VIEW predictions.flowers_job AS SELECT * FROM predictions.flowers_job__flowers_v1 WHERE batch_id < coalesce((SELECT visible_below FROM scorebeat.prediction_sets WHERE id = 1), 9223372036854775807);

CREATE VIEW predictions.every_job AS SELECT * FROM predictions.every_job__flowers_v1_g1 WHERE batch_id < coalesce((SELECT visible_below FROM scorebeat.prediction_sets WHERE id = 2), 9223372036854775807);

INSERT INTO scorebeat.jobs (name, spec)
    VALUES ('flowers_job', :spec),
    ('every_job', :every);

UPDATE scorebeat.jobs SET paused_at = now(), paused_by = 'ann', paused_reason = 'a holiday' WHERE name = 'every_job';

INSERT INTO scorebeat.model_versions (name, version, format, digest, signature, added_by, published_at, retired_at)
    VALUES ('flowers', 1, 'skops', :digest, :signature, 'ann', now(), NULL),
    ('flowers', 2, 'skops', :digest, :signature, 'bob', NULL, NULL);

INSERT INTO scorebeat.prediction_sets (job, model, model_version, generation, table_name, complete_at)
    VALUES ('flowers_job', 'flowers', 1, 1, 'flowers_job__flowers_v1', now()),
    ('every_job', 'flowers', 1, 1, 'every_job__flowers_v1_g1', now()),
    ('every_job', 'flowers', 1, 2, 'every_job__flowers_v1_g2', NULL);

INSERT INTO scorebeat.runs (job, model, model_version, prediction_set_id, state, spec, created_by, planned_at, plan_expires_at, plan_attempt, finished_at, reason, run_key, plan_is_whole, noted_at)
    VALUES ('flowers_job', 'flowers', 1, 1, 'partial', :spec, 'beat', now(), NULL, 1, now(), '11 rows failed', 'k', true, now()),
    ('every_job', 'flowers', 1, 2, 'succeeded', :every, 'ann', now(), NULL, 1, now(), NULL, NULL, true, now()),
    ('flowers_job', 'flowers', 1, 1, 'cancelled', :spec, 'ann', now(), NULL, 1, now(), 'by ann', NULL, false, NULL),
    ('every_job', 'flowers', 1, 3, 'failed', :every, 'ann', now(), NULL, 1, now(), 'no query', NULL, false, NULL),
    ('flowers_job', 'flowers', 1, 1, 'running', :spec, 'beat', now(), NULL, 1, NULL, NULL, NULL, true, NULL),
    ('every_job', 'flowers', 1, 3, 'planning', :every, 'ann', NULL, now() - interval '1 hour', 1, NULL, NULL, NULL, false, NULL);

INSERT INTO scorebeat.batches (run_id, number, queue, state, rows_planned, rows_scored, rows_failed, first_key, last_key, keys, attempt, attempts_left, claimed_by, claimed_at, claim_expires_at, finished_at, error)
    VALUES (1, 1, 'cpu', 'committed', 10, 9, 1, '["1"]', '["10"]', NULL, 3, 2, 'w', now(), NULL, now(), NULL),
    (1, 2, 'cpu', 'dead', 10, 0, 0, '["11"]', '["20"]', NULL, 5, 0, 'w', now(), NULL, now(), 'Broken: oh'),
    (3, 1, 'cpu', 'cancelled', 10, 0, 0, '["21"]', '["30"]', NULL, 0, 5, NULL, NULL, NULL, now(), NULL),
    (5, 1, 'cpu', 'claimed', 10, 0, 0, '["21"]', '["30"]', NULL, 1, 4, 'gone', now(), now() - interval '1 minute', NULL, NULL),
    (5, 2, 'cpu', 'pending', 10, 0, 0, '["31"]', '["40"]', NULL, 0, 5, NULL, NULL, NULL, NULL, NULL),
    (5, 3, 'cpu', 'pending', 3, 0, 0, '["41"]', '["50"]', '[["41"], ["45"], ["50"]]', 0, 5, NULL, NULL, NULL, NULL, NULL);

INSERT INTO scorebeat.quarantine (prediction_set_id, batch_id, key, error_type, error, traceback)
    VALUES (1, 1, '["3"]', 'ValueError', 'too long', 'Traceback: line 1');

INSERT INTO scorebeat.actions (by, action, subject, details)
    VALUES ('ann', 'cancel', 'run 3', '{}'),
    ('ann', 'publish', 'model flowers/1', '{"jobs": ["flowers_job"]}');

INSERT INTO scorebeat.workers (name, queues, device, processes)
    VALUES ('gone', '["cpu"]', 'cpu', 2);

INSERT INTO scorebeat.device_limits (model, model_version, device, micro_batch_rows)
    VALUES ('flowers', 1, 'cpu', 4096);

INSERT INTO scorebeat.run_sums (run_id, job, state, rows_scored, attempts)
    VALUES (1, 'flowers_job', 'partial', 9, 8),
    (2, 'every_job', 'succeeded', 50, 5);

INSERT INTO scorebeat.counters (name, job, value)
    VALUES ('claims_expired', 'flowers_job', 2);

INSERT INTO scorebeat.notices (run_id, event, happened_at)
    VALUES (1, 'finished', now());

INSERT INTO scorebeat.pruned_batches (run_id, batches, batches_dead, rows_planned, rows_scored, rows_failed, attempts)
    VALUES (2, 5, 0, 50, 50, 0, 5);
