//! docs/SEMANTICS.md names every limit with its numbers, and every error code; docs/ACCESS.md every capability;
//! docs/TRIGGERS.md every kind of trigger.

use picloud_core::{
    AppId, Capability, CronSource, ErrorCode, LeastRole, LimitField, RetryOverrides, Schedule, TriggerKind,
    TriggerSource, UNLIMITED,
};

const SEMANTICS: &str = include_str!("../../../docs/SEMANTICS.md");

/// The cells of the row whose first cell is `` `name` ``.
fn row(name: &str) -> Vec<&'static str> {
    let start = format!("| `{name}` |");
    let mut rows = SEMANTICS.lines().filter(|line| line.starts_with(&start));
    let row = rows.next().unwrap_or_else(|| panic!("docs/SEMANTICS.md has no row for {name}"));
    assert_eq!(rows.next(), None, "docs/SEMANTICS.md has two rows for {name}");
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// A number as the document writes it: `16 MiB`, or `1,000` with the digits in groups.
fn number(field: LimitField, value: u64) -> String {
    let units = [("TiB", 1 << 40), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let is_bytes = field.as_str().ends_with("bytes");
    if value == UNLIMITED {
        return "none".to_owned();
    }
    if let Some((unit, size)) =
        units.iter().find(|(_, size)| is_bytes && value >= *size && value.is_multiple_of(*size))
    {
        return format!("{} {unit}", value / size);
    }
    let digits = value.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

#[test]
fn every_limit_is_documented_with_its_numbers() {
    for field in LimitField::ALL {
        let numbers = [field.default(), field.default_ceiling(), field.least()];
        let expected = numbers.map(|value| number(*field, value));
        assert_eq!(row(field.as_str())[1..4], expected, "{}", field.as_str());
    }
}

#[test]
fn every_error_code_is_documented() {
    for code in ErrorCode::ALL {
        let status: u16 = row(code.as_str())[1].parse().unwrap();
        assert!((400..600).contains(&status), "{code}");
    }
}

/// The table of capabilities is the one of the code, in its order, with nothing left out and nothing added.
#[test]
fn every_capability_is_documented_with_its_scope_and_role() {
    let access = include_str!("../../../docs/ACCESS.md");
    let (_, section) = access.split_once("## Capabilities").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let documented: Vec<String> = rows
        .map(|row| row.trim_matches('|').split('|').take(3).map(str::trim).collect::<Vec<_>>().join(" "))
        .collect();
    let app = AppId::generate();
    let of_apps = Capability::OF_APPS.iter().map(|of| of(app));
    let all = of_apps.chain(Capability::OF_INSTANCE.iter().copied());
    let expected: Vec<String> = all
        .map(|capability| {
            let role = match capability.least_role() {
                LeastRole::App(role) => role.as_str(),
                LeastRole::Instance(role) => role.as_str(),
            };
            format!("`{}` `{}` `{role}`", capability.name(), capability.scope())
        })
        .collect();
    assert_eq!(documented, expected);
}

#[test]
fn every_kind_of_trigger_is_documented_with_its_handler() {
    let triggers = include_str!("../../../docs/TRIGGERS.md");
    for kind in TriggerKind::ALL {
        let rows = triggers.lines().filter(|line| line.starts_with(&format!("| `{}` |", kind.as_str())));
        let handler = format!("`{}(", kind.handler());
        assert_eq!(rows.filter(|row| row.contains(&handler)).count(), 1, "{}", kind.as_str());
    }
}

#[test]
fn the_limits_of_triggers_are_documented_with_their_numbers() {
    let (least, most, default) = CronSource::LATENESS;
    let hours = |duration: std::time::Duration| duration.as_secs() / 3600;
    assert_eq!((least.as_secs(), hours(most), hours(default)), (1, 7 * 24, 1));
    assert_eq!((hours(CronSource::MAX_JITTER), RetryOverrides::MAX_DELAY_MS / 3_600_000), (1, 7 * 24));
    let (fewest, queue_most) = TriggerSource::CONCURRENCY.into_inner();
    let rows = [
        format!(
            "| a schedule | {} bytes, at most every {} s |",
            Schedule::MAX_BYTES,
            Schedule::LEAST_INTERVAL_SECONDS
        ),
        "| lateness, jitter of a schedule | 1 s to 7 days, up to 1 h |".to_owned(),
        format!(
            "| attempts, waits of a trigger's retries | 1 to {}, up to 7 days |",
            RetryOverrides::MAX_ATTEMPTS
        ),
        format!("| messages of a queue that are handled at once | {fewest} to {},000 |", queue_most / 1000),
        format!(
            "| kinds, triggers that a trigger for dead letters names | {}, {} |",
            TriggerSource::MAX_SOURCE_KINDS,
            TriggerSource::MAX_SOURCE_TRIGGERS
        ),
    ];
    for row in rows {
        assert!(SEMANTICS.contains(&row), "docs/SEMANTICS.md has no {row}");
    }
}
