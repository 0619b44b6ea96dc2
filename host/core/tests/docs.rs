//! docs/SEMANTICS.md names every limit with its numbers, and every error code; docs/ACCESS.md every capability.

use picloud_core::{AppId, Capability, ErrorCode, LeastRole, LimitField, UNLIMITED};

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
