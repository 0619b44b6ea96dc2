//! Start to first answer, upload of a large script, and CPU without traffic.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Bench,
    peers::Contender,
    picloud::{self, Control},
    processes,
    report::{Section, Table, median},
};

/// Bytes of source that the upload is measured with.
const LARGE: usize = 20 * 1024;
const UPLOADS: usize = 20;

/// Start of every contender, and uploads to PiCloud.
pub(super) fn measure(bench: &Bench) -> Result<Section> {
    picloud::clear()?;
    // The first start makes the database and compiles the interpreter; it is no start like any other.
    let began = Instant::now();
    drop(Contender::PiCloud.start(bench, 1)?);
    let first = began.elapsed();
    let mut table = Table::new(["server", "start to first answer"]);
    for contender in Contender::ALL {
        let mut seconds = Vec::new();
        for _ in 0..bench.effort.starts {
            seconds.push(contender.start(bench, 1)?.first_answer.as_secs_f64());
        }
        let middle = median(&seconds);
        println!("{:<8} {:.0} ms to its first answer", contender.name(), middle * 1e3);
        table.row([contender.name().to_owned(), format!("{:.0} ms", middle * 1e3)]);
    }
    table.row(["PiCloud, the very first time".into(), format!("{:.0} ms", first.as_secs_f64() * 1e3)]);

    let upload = median_upload(bench)?;
    println!("upload of {} KiB: {upload:.1} ms", LARGE / 1024);
    Ok(Section {
        title: "Start and upload",
        text: format!(
            "Each server on one core. PiCloud's start includes that of its PostgreSQL (which runs on the same core \
             until it is ready); its very first start also makes the database, compiles the interpreter and deploys. \
             Upload: `PUT` of {} KiB of source over HTTP, with the script compiled, its image made and the version \
             committed; median of {UPLOADS}.",
            LARGE / 1024
        ),
        tables: vec![table],
        ratios: vec![format!("Upload of {} KiB of source, committed: {upload:.1} ms.", LARGE / 1024)],
    })
}

fn median_upload(bench: &Bench) -> Result<f64> {
    let server = Contender::PiCloud.start(bench, 1)?;
    let mut control = Control::connect()?;
    let mut millis = Vec::new();
    for number in 0..UPLOADS {
        let source = picloud::large_source(LARGE, number);
        let began = Instant::now();
        control.upload("large", &source)?;
        millis.push(began.elapsed().as_secs_f64() * 1e3);
    }
    drop(server);
    Ok(median(&millis))
}

/// CPU that PiCloud and its database use with one app deployed and nobody calling.
pub(super) fn measure_idle(bench: &Bench) -> Result<Section> {
    picloud::clear()?;
    let server = Contender::PiCloud.start(bench, 1)?;
    thread::sleep(Duration::from_secs(5));
    let tree = processes::tree(server.pid())?;
    // The postmaster counts the time of its children that have ended.
    let before = (processes::cpu_time(&tree.own)?, processes::cpu_time(&tree.database)?);
    let began = Instant::now();
    thread::sleep(bench.effort.idle);
    let after = (processes::cpu_time(&tree.own)?, processes::cpu_time(&tree.database)?);
    let share = |before: Duration, after: Duration| {
        after.saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0
    };
    let (own, database) = (share(before.0, after.0), share(before.1, after.1));
    println!("idle: {own:.2} % of a core, PostgreSQL {database:.2} %");
    let mut table = Table::new(["process", "share of one core"]);
    table.row(["PiCloud".into(), format!("{own:.2} %")]);
    table.row(["its PostgreSQL".into(), format!("{database:.2} %")]);
    Ok(Section {
        title: "Idle CPU",
        text: format!("One app deployed, no request for {} s.", bench.effort.idle.as_secs()),
        tables: vec![table],
        ratios: vec![format!("Idle: {own:.2} % of a core, and {database:.2} % for its PostgreSQL.")],
    })
}
