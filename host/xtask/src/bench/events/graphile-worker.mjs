// Handles jobs that do nothing with graphile-worker, and prints how long it took until the database had none left; or adds
// them, `enqueue` one by one with 16 under way, `enqueue-batch` a hundred at once with 4 under way.
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import pg from "pg";

const [mode, count] = process.argv.slice(2);
const jobs = Number(count);
const worker = mode === "batched"
  ? { concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
  : { concurrentJobs: 10 };
const pgPool = new pg.Pool({ max: 12 });
const logger = new Logger(() => () => {});
const preset = { worker: { ...worker, logger } };

await runMigrations({ pgPool, preset });
if (mode.startsWith("enqueue")) {
  const utils = await makeWorkerUtils({ pgPool, preset });
  const size = mode === "enqueue" ? 1 : 100;
  let next = 0;
  const started = performance.now();
  await Promise.all(Array.from({ length: size === 1 ? 16 : 4 }, async () => {
    while (next < jobs) {
      const first = next;
      next += size;
      const specs = Array.from({ length: size }, (_, n) => ({ identifier: "nothing", payload: { n: first + n } }));
      if (size === 1) await utils.addJob("nothing", specs[0].payload);
      else await utils.addJobs(specs);
    }
  }));
  console.log("RESULT " + JSON.stringify({ jobs, seconds: (performance.now() - started) / 1000 }));
  await utils.release();
  await pgPool.end();
  process.exit(0);
}
await pgPool.query(
  `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
    SELECT json_populate_record(
      NULL::graphile_worker.job_spec,
      json_build_object('identifier', 'nothing', 'payload', json_build_object('n', n)))
    FROM generate_series(1, $1) n))`,
  [jobs],
);
await pgPool.query("VACUUM ANALYZE");

let handled = 0;
let resolve;
const promise = new Promise((done) => { resolve = done; });
const started = performance.now();
const runner = await run({
  pgPool,
  preset,
  noHandleSignals: true,
  taskList: { nothing: async () => { if (++handled === jobs) resolve(); } },
});
await promise;
// A job counts once its row is gone.
for (;;) {
  const { rows } = await pgPool.query("SELECT count(*)::int AS left FROM graphile_worker._private_jobs");
  if (rows[0].left === 0) break;
}
console.log("RESULT " + JSON.stringify({ jobs: handled, seconds: (performance.now() - started) / 1000 }));
await runner.stop();
await pgPool.end();
