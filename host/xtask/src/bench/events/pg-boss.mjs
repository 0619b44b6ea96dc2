// Handles jobs that do nothing with pg-boss, and prints how long it took until the database had all as completed.
import PgBoss from "pg-boss";
import pg from "pg";

const QUEUE = "nothing";
const LOOPS = 4;
const BATCH = 500;

const jobs = Number(process.argv[3]);
const pool = new pg.Pool({ max: 12 });
const db = { executeSql: (text, values) => pool.query(text, values) };
const boss = new PgBoss({ db, supervise: false, schedule: false });
boss.on("error", (error) => { throw error; });

await boss.start();
await boss.createQueue(QUEUE);
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
