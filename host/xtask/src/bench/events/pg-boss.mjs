// Handles jobs that do nothing with pg-boss, and prints how long it took until the database had all as completed; or sends
// them, `enqueue` one by one with 16 under way, `enqueue-batch` a hundred at once with 4 under way.
import PgBoss from "pg-boss";
import pg from "pg";

const QUEUE = "nothing";
const LOOPS = 4;
const BATCH = 500;

const [mode, count] = process.argv.slice(2);
const jobs = Number(count);
const pool = new pg.Pool({ max: 12 });
const db = { executeSql: (text, values) => pool.query(text, values) };
const boss = new PgBoss({ db, supervise: false, schedule: false });
boss.on("error", (error) => { throw error; });

await boss.start();
await boss.createQueue(QUEUE);
if (mode.startsWith("enqueue")) {
  const size = mode === "enqueue" ? 1 : 100;
  let next = 0;
  const started = performance.now();
  await Promise.all(Array.from({ length: size === 1 ? 16 : 4 }, async () => {
    while (next < jobs) {
      const first = next;
      next += size;
      if (size === 1) await boss.send(QUEUE, { n: first });
      else await boss.insert(Array.from({ length: size }, (_, n) => ({ name: QUEUE, data: { n: first + n } })));
    }
  }));
  console.log("RESULT " + JSON.stringify({ jobs, seconds: (performance.now() - started) / 1000 }));
  await boss.stop({ graceful: false, wait: false });
  await pool.end();
  process.exit(0);
}
for (let first = 0; first < jobs; first += 1000) {
  const length = Math.min(1000, jobs - first);
  await boss.insert(Array.from({ length }, (_, n) => ({ name: QUEUE, data: { n: first + n } })));
}
await pool.query("VACUUM ANALYZE");

// Its own workers fetch twice a second at the most; without them it is as fast as its database.
let handled = 0;
const started = performance.now();
await Promise.all(Array.from({ length: LOOPS }, async () => {
  for (;;) {
    const batch = await boss.fetch(QUEUE, { batchSize: BATCH });
    if (!batch || batch.length === 0) break;
    await boss.complete(QUEUE, batch.map((job) => job.id));
    handled += batch.length;
  }
}));
for (;;) {
  const { rows } = await pool.query("SELECT count(*)::int AS done FROM pgboss.job WHERE name = $1 AND state = 'completed'", [QUEUE]);
  if (rows[0].done === jobs) break;
}
console.log("RESULT " + JSON.stringify({ jobs: handled, seconds: (performance.now() - started) / 1000 }));
await boss.stop({ graceful: false, wait: false });
await pool.end();
