//! Any patterns and any path: the table agrees with a search that looks at one pattern after the other.

use super::*;

/// How a segment of a path is matched; the first is the most specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Literal,
    Param,
    Rest,
    /// The pattern ends where the path does.
    End,
}

/// How `pattern` matches a path, segment by segment, if it does.
fn ranks(pattern: &RoutePattern, path: &[&str]) -> Option<Vec<Rank>> {
    let mut ranks = Vec::new();
    let mut path = path.iter();
    for segment in &pattern.segments {
        match segment {
            Segment::Rest(_) => {
                ranks.push(Rank::Rest);
                return (path.len() > 0).then_some(ranks);
            }
            Segment::Literal(text) if path.next()? == text => ranks.push(Rank::Literal),
            Segment::Param(_) if !path.next()?.is_empty() => ranks.push(Rank::Param),
            _ => return None,
        }
    }
    ranks.push(Rank::End);
    path.next().is_none().then_some(ranks)
}

/// The first line is a path, the others are patterns.
fn compare(text: &str) {
    let mut lines = text.lines();
    let path = lines.next().unwrap_or_default();
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let patterns: Vec<RoutePattern> = lines.take(64).filter_map(|line| line.parse().ok()).collect();
    let mut table = RouteTable::default();
    for (index, pattern) in patterns.iter().enumerate() {
        assert!(pattern.to_string().len() <= RoutePattern::MAX_BYTES);
        assert_eq!(pattern.to_string().parse::<RoutePattern>().as_ref(), Ok(pattern));
        table.insert(pattern, MethodSet::ANY, index);
    }
    let matching = patterns.iter().enumerate();
    let matching = matching.filter_map(|(index, pattern)| Some((ranks(pattern, &segments)?, index)));
    let best = matching.min().map(|(_, index)| index);
    match table.find(Method::Get, &segments) {
        RouteMatch::Found { target, params } => {
            assert_eq!(Some(*target), best, "{path:?} in {patterns:?}");
            let is_value = |segment: &&Segment| !matches!(segment, Segment::Literal(_));
            assert_eq!(params.len(), patterns[*target].segments.iter().filter(is_value).count());
        }
        RouteMatch::NotFound => assert_eq!(best, None, "{path:?} in {patterns:?}"),
        RouteMatch::MethodNotAllowed { .. } => panic!("every method is routed"),
    }
}

#[test]
fn router() {
    bolero::check!(name = "router")
        .with_iterations(20_000)
        .for_each(|input: &[u8]| compare(&String::from_utf8_lossy(input)));
}

/// Random bytes are seldom patterns; these are little else.
#[test]
fn router_of_likely_patterns() {
    bolero::check!(name = "likely-router").with_max_len(64).with_iterations(20_000).for_each(
        |input: &[u8]| {
            const PARTS: [&str; 8] = ["/", "a", "b", ":x", "*r", "\n", "/a", "/:y"];
            let text: String = input.iter().map(|byte| PARTS[usize::from(byte % 8)]).collect();
            compare(&text);
        },
    );
}
