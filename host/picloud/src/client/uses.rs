//! What a script uses, in words: shown where it uses more than the version before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is used of one kind.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Used {
    pub(super) names: Vec<String>,
    pub(super) any: bool,
}

/// What is used, by kind. Kinds that this program does not know are shown by their names.
pub(super) type Uses = BTreeMap<String, Used>;

/// Each use as the rest of a sentence: `reads the secret "stripe"`.
pub(super) fn sentences(uses: &Uses) -> Vec<String> {
    let mut sentences = Vec::new();
    for (kind, used) in uses {
        let (one, any) = words(kind);
        sentences.extend(used.names.iter().map(|name| format!("{one} \"{name}\"")));
        sentences.extend(used.any.then_some(any));
    }
    sentences
}

/// How the use of one name is told, and how that of names which are made while the script runs.
fn words(kind: &str) -> (String, String) {
    let (verb, one, many) = match kind {
        "kv" => ("uses", "the kv collection", "kv collections"),
        "secrets" => ("reads", "the secret", "secrets"),
        "env" => ("reads", "the variable", "variables"),
        "scripts" => ("calls", "the script", "scripts"),
        "files" => ("uses", "the file", "files"),
        "hosts" => ("calls over HTTP", "the host", "hosts"),
        "queues" => ("sends to", "the queue", "queues"),
        "topics" => ("publishes on", "the topic", "topics"),
        other => ("uses", other, other),
    };
    (format!("{verb} {one}"), format!("{verb} {many} by names that it makes itself"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_told_one_by_one() {
        let json = r#"{"secrets":{"names":["a","b"],"any":false},"kv":{"names":[],"any":true},"new":{"names":["x"],"any":true}}"#;
        let uses: Uses = serde_json::from_str(json).unwrap();
        assert_eq!(
            sentences(&uses),
            [
                "uses kv collections by names that it makes itself",
                "uses new \"x\"",
                "uses new by names that it makes itself",
                "reads the secret \"a\"",
                "reads the secret \"b\"",
            ]
        );
    }
}
