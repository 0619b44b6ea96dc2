//! A server that is killed again and again while it takes and handles messages, on a PostgreSQL that stays: afterwards every
//! event that was accepted has had its effect once, or is a dead letter.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use picloud_postgres::ThrowawayCluster;
use serde::Deserialize;

use super::{
    Bench,
    events::{
        self,
        own::{Server, psql, sql},
    },
    picloud::{self, Control},
    report::{Section, Table},
};
use crate::http::{Connection, Request};

const DATABASE: &str = "crash";

/// The scripts, and what counts in the end: the same as of the tests.
const SEND: &str = include_str!("../../../picloud/tests/e2e/crash/send.rhai");
const WORK: &str = include_str!("../../../picloud/tests/e2e/crash/work.rhai");
const ACCOUNT: &str = include_str!("../../../picloud/tests/e2e/crash/account.sql");

const TRIGGER: &[u8] = br#"{"name":"jobs","kind":"queue","script":"work","queue":"jobs"}"#;

/// Enough for those that are lost with many processes; what always fails does so quickly.
const SETTINGS: &[(&str, &str)] = &[
    ("PICLOUD_TRIGGER_RETRY_MAX_ATTEMPTS", "20"),
    ("PICLOUD_TRIGGER_RETRY_BASE_DELAY_MS", "1"),
    ("PICLOUD_TRIGGER_RETRY_MAX_DELAY_MS", "50"),
];

/// The server is killed so long after it is ready, at the latest.
const LATEST_KILL: Duration = Duration::from_millis(400);

/// What a lost process had is taken over within this time (docs/SEMANTICS.md, 16).
const TAKEN_OVER: Duration = Duration::from_secs(45);

/// What is left in the end is handled within this time.
const DRAINED: Duration = Duration::from_mins(10);

/// Kills the server so often, and says what became of the events.
pub(super) fn measure(bench: &Bench, rounds: u32, seed: Option<u64>) -> Result<Section> {
    let seed = seed.map_or_else(time_seed, Ok)?;
    println!("seed {seed}");
    let cluster = ThrowawayCluster::start_durable()?;
    events::create_database(&cluster, DATABASE)?;
    picloud::clear()?;
    let launch = || Server::launch(bench, &cluster, DATABASE, SETTINGS);
    let mut server = launch()?;
    picloud::deploy()?;
    let mut control = Control::connect()?;
    control.upload("send", SEND)?;
    control.upload("work", WORK)?;
    control.post("/api/v1/apps/bench/triggers", TRIGGER)?;
    drop(control);

    let lost = Lost::watch(&cluster)?;
    let load = Load::start();
    let mut claims = 0;
    for round in 1..=rounds {
        thread::sleep(moment(seed, round));
        server.kill()?;
        claims += lost.note(&cluster)?;
        server = launch()?;
        if round % 20 == 0 || round == rounds {
            println!("killed {round} times, {} messages are accepted", load.accepted());
        }
    }
    let noted = load.stop()?;
    let left = Instant::now();
    while sql(&cluster, DATABASE, "SELECT count(*) FROM outbox")?.trim() != "0" {
        ensure!(left.elapsed() < DRAINED, "events are left after {} s", DRAINED.as_secs());
        thread::sleep(Duration::from_millis(200));
    }
    let longest = lost.end()?;
    drop(server);
    let account = Account::of(&cluster, &noted)?;
    println!("{account:?}, the longest time to a takeover {:.1} s", longest.as_secs_f64());
    account.check()?;
    ensure!(longest < TAKEN_OVER, "claims of a lost process stayed for {} s", longest.as_secs());
    Ok(section(rounds, seed, claims, longest, &account))
}

fn section(rounds: u32, seed: u64, claims: usize, longest: Duration, account: &Account) -> Section {
    let mut table = Table::new(["what", "figure"]);
    let mut row = |what: &str, figure: String| table.row([what.to_owned(), figure]);
    row("kills", rounds.to_string());
    row("events that were accepted", account.accepted.to_string());
    row("done, with their effect exactly once", account.done.to_string());
    row("dead letters", account.dead.to_string());
    row("of these, lost with a process at every attempt", account.worn_out.to_string());
    row("neither done nor dead, or both", account.lost.to_string());
    row("with their effect more than once", account.twice.to_string());
    row("groups out of order", account.disordered.to_string());
    row("events that a killed process had claimed", claims.to_string());
    row(
        "longest time from a kill until what it had was taken over",
        format!("{:.1} s", longest.as_secs_f64()),
    );
    Section {
        title: "Killed at random moments",
        text: format!(
            "A server over a PostgreSQL that stays, under a load of messages from the API and from scripts, some in groups, some \
             that always fail, some that send a further one. It is killed (`kill -9`) up to {} ms after it is ready and started \
             again. An event counts as accepted when its client has the 202, or when the script that sent it has committed. Seed \
             {seed}.",
            LATEST_KILL.as_millis()
        ),
        tables: vec![table],
        ratios: vec![format!(
            "Killed {rounds} times under load: of {} accepted events none lost, none with its effect twice; taken over within \
             {:.1} s.",
            account.accepted,
            longest.as_secs_f64()
        )],
    }
}

fn time_seed() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// When the server is killed in a round: the same for the same seed.
fn moment(seed: u64, round: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    (seed, round).hash(&mut hasher);
    Duration::from_micros(hasher.finish() % LATEST_KILL.as_micros() as u64)
}

/// What became of the events.
#[derive(Debug)]
struct Account {
    accepted: u64,
    done: u64,
    dead: u64,
    worn_out: u64,
    lost: u64,
    twice: u64,
    disordered: u64,
}

impl Account {
    fn of(cluster: &ThrowawayCluster, noted: &[String]) -> Result<Self> {
        sql(cluster, DATABASE, "CREATE TABLE noted (id text PRIMARY KEY)")?;
        for ids in noted.chunks(1000) {
            let rows: Vec<String> = ids.iter().map(|id| format!("('{id}')")).collect();
            sql(cluster, DATABASE, &format!("INSERT INTO noted VALUES {}", rows.join(",")))?;
        }
        let line = sql(cluster, DATABASE, ACCOUNT)?;
        let figures: Vec<u64> = line.trim().split('|').map(str::parse).collect::<Result<_, _>>()?;
        let [accepted, done, dead, worn_out, lost, twice, disordered] = figures[..] else {
            anyhow::bail!("{line:?} is no account");
        };
        Ok(Self { accepted, done, dead, worn_out, lost, twice, disordered })
    }

    fn check(&self) -> Result<()> {
        ensure!(self.accepted > 0, "nothing was accepted");
        ensure!(self.lost == 0, "{} events are lost, or done and dead", self.lost);
        ensure!(self.twice == 0, "{} events had their effect more than once", self.twice);
        ensure!(self.disordered == 0, "{} groups were handled out of order", self.disordered);
        Ok(())
    }
}

/// Clients that send messages until they are told to stop, whether a server answers or not.
struct Load {
    stop: Arc<AtomicBool>,
    noted: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    fn start() -> Self {
        let mut load = Self { stop: Arc::default(), noted: Arc::default(), clients: Vec::new() };
        for client in 0..2 {
            let (stop, noted) = (Arc::clone(&load.stop), Arc::clone(&load.noted));
            load.clients.push(thread::spawn(move || send_messages(client, &stop, &noted)));
        }
        let stop = Arc::clone(&load.stop);
        load.clients.push(thread::spawn(move || call_script(&stop)));
        load
    }

    fn accepted(&self) -> usize {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The messages whose acceptance the clients were told of.
    fn stop(self) -> Result<Vec<String>> {
        self.stop.store(true, Relaxed);
        for client in self.clients {
            client.join().map_err(|_| anyhow::anyhow!("a client has panicked"))??;
        }
        Ok(std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Sends numbered messages by the API, each third one in the client's group, and notes those that are answered 202.
fn send_messages(client: u32, stop: &AtomicBool, noted: &Mutex<Vec<String>>) -> Result<()> {
    #[derive(Deserialize)]
    struct Sent {
        id: String,
    }
    let mut control = None;
    for number in 0_u64.. {
        if stop.load(Relaxed) {
            break;
        }
        let group = if number % 3 == 0 { format!(r#","group":"g{client}""#) } else { String::new() };
        let (fails, hops) = (number % 20 == 19, u8::from(number % 10 == 0));
        let message = format!(r#"{{"body":{{"number":{number},"fails":{fails},"hops":{hops}}}{group}}}"#);
        let path = "/api/v1/apps/bench/queues/jobs/messages";
        let ask = |control: &mut Option<Control>| {
            let mut connected = control.take().map_or_else(Control::connect, Ok)?;
            let answer = connected.ask(path, message.as_bytes())?;
            *control = Some(connected);
            anyhow::Ok(answer)
        };
        match ask(&mut control) {
            Ok(answer) if answer.status == 202 => {
                let sent: Sent = serde_json::from_slice(&answer.body).context("reading an answer")?;
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(sent.id);
            }
            Ok(answer) if matches!(answer.status, 429 | 503) => thread::sleep(Duration::from_millis(5)),
            Ok(answer) => anyhow::bail!("a message is answered {}: {}", answer.status, answer.text()),
            // Whether it was accepted nobody knows.
            Err(_killed) => thread::sleep(Duration::from_millis(5)),
        }
    }
    Ok(())
}

/// Calls the script that sends messages and notes them itself.
fn call_script(stop: &AtomicBool) -> Result<()> {
    let request = Request {
        method: "POST",
        host: picloud::HOST,
        path: "/send",
        token: None,
        body: Some(("text/plain", b"")),
    };
    let mut connection = None;
    while !stop.load(Relaxed) {
        let call = |connection: &mut Option<Connection>| {
            let open = || Connection::open(([127, 0, 0, 1], picloud::APP_PORT).into());
            let mut connected = connection.take().map_or_else(open, Ok)?;
            let answer = connected.send(&request)?;
            *connection = Some(connected);
            anyhow::Ok(answer)
        };
        match call(&mut connection) {
            Ok(answer) if matches!(answer.status, 200 | 429 | 503) => {}
            Ok(answer) => anyhow::bail!("/send is answered {}: {}", answer.status, answer.text()),
            Err(_killed) => {}
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Processes that were killed while they had claimed something, and how long that stays so.
struct Lost {
    since: Arc<Mutex<Taken>>,
    stop: Arc<AtomicBool>,
    watcher: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Taken {
    waiting: HashMap<String, Instant>,
    longest: Duration,
}

impl Lost {
    fn watch(cluster: &ThrowawayCluster) -> Result<Self> {
        let mut session = Session::start(cluster)?;
        let (since, stop) = (Arc::<Mutex<Taken>>::default(), Arc::<AtomicBool>::default());
        let (state, stopped) = (Arc::clone(&since), Arc::clone(&stop));
        let watcher = thread::spawn(move || {
            while !stopped.load(Relaxed) {
                thread::sleep(Duration::from_millis(50));
                let asked = Instant::now();
                let claimers = session.ask(CLAIMERS)?;
                let mut taken = state.lock().unwrap_or_else(PoisonError::into_inner);
                let Taken { waiting, longest } = &mut *taken;
                waiting.retain(|worker, since| {
                    // What is noted since the question is not in its answer.
                    let is_over = *since < asked && !claimers.contains(worker.as_str());
                    if is_over {
                        *longest = (*longest).max(since.elapsed());
                    }
                    !is_over
                });
            }
            Ok(())
        });
        Ok(Self { since, stop, watcher })
    }

    /// Notes what a process had that has just been killed. Answers how many events.
    fn note(&self, cluster: &ThrowawayCluster) -> Result<usize> {
        // What it had asked for is done or undone first.
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'picloud'";
        while sql(cluster, DATABASE, busy)?.trim() != "0" {}
        let claims = "SELECT claimed_by, count(*) FROM outbox WHERE claimed_by IS NOT NULL GROUP BY 1";
        let mut taken = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let killed = Instant::now();
        let mut events = 0;
        for line in sql(cluster, DATABASE, claims)?.lines() {
            let (worker, count) = line.split_once('|').context("no process and number")?;
            if !taken.waiting.contains_key(worker) {
                taken.waiting.insert(worker.to_owned(), killed);
                events += count.parse::<usize>()?;
            }
        }
        Ok(events)
    }

    /// The longest time that it took until what a killed process had was taken over.
    fn end(self) -> Result<Duration> {
        self.stop.store(true, Relaxed);
        self.watcher.join().map_err(|_| anyhow::anyhow!("the watcher has panicked"))??;
        let taken = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let unseen = taken.waiting.values().map(Instant::elapsed).max().unwrap_or_default();
        Ok(taken.longest.max(unseen))
    }
}

const CLAIMERS: &str = "SELECT coalesce(string_agg(DISTINCT claimed_by::text, ' '), '') FROM outbox;";

/// A psql that answers one question after the other.
struct Session {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Session {
    fn start(cluster: &ThrowawayCluster) -> Result<Self> {
        let mut psql = psql(cluster, DATABASE);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting psql")?;
        let answers = BufReader::new(child.stdout.take().context("psql has no output")?);
        Ok(Self { child, answers })
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.child.stdin.as_mut().context("psql takes no input")?, "{question}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(answer.ends_with('\n'), "psql has ended");
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_when() {
        assert_eq!(moment(1, 2), moment(1, 2));
        assert!((1..100).any(|round| moment(1, round) != moment(2, round)));
        assert!((1..100).all(|round| moment(1, round) < LATEST_KILL));
    }
}
