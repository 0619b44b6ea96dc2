//! Route patterns and their matching: `/users/:id/files/*rest`.
//!
//! The most specific pattern wins, segment by segment: a literal before a parameter before a rest.

mod mode;
mod target;

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use mode::{RouteMode, UnknownRouteMode};
pub use target::{RouteTarget, StaticFiles};

/// Decoded parameters of a matched route, by name.
pub type Params = Vec<(String, String)>;

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route path {0}")]
pub struct PatternError(String);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    Param(String),
    Rest(String),
}

/// A route's path: literals, `:name` for one segment, and `*name` at the end for whatever follows (also
/// nothing). A trailing slash matters: `/a` and `/a/` are two routes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutePattern {
    segments: Vec<Segment>,
}

impl RoutePattern {
    /// The longest pattern, in bytes.
    pub const MAX_BYTES: usize = 512;
    /// The most segments of a pattern.
    pub const MAX_SEGMENTS: usize = 32;

    /// The pattern of a new route. Beside what no pattern can be, braces are refused: they would be taken literally,
    /// and who writes them means a parameter. Routes that are stored may have them.
    pub fn for_new_route(text: &str) -> Result<Self, PatternError> {
        let pattern: Self = text.parse()?;
        let braced = text.split('/').find(|part| part.contains(['{', '}']));
        let Some(part) = braced else { return Ok(pattern) };
        let name = part.trim_matches(['{', '}', '*', ':', '.']);
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        // Others write `{*rest}`, `{rest...}` or `{rest:.*}` for whatever follows.
        let (sign, otherwise) =
            if part.contains('*') || part.contains("...") { ('*', "rest") } else { (':', "id") };
        let hint = if is_name { name } else { otherwise };
        Err(PatternError(format!("contains {part:?}; a parameter has no braces: write {sign}{hint}")))
    }

    /// Whether both match the same paths: names of parameters do not matter.
    pub fn has_shape_of(&self, other: &Self) -> bool {
        let is_alike = |pair: (&Segment, &Segment)| match pair {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::Param(_), Segment::Param(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
            _ => false,
        };
        self.segments.len() == other.segments.len() && self.segments.iter().zip(&other.segments).all(is_alike)
    }

    /// The pattern that matches exactly `/` and the segments of `path`, taken literally.
    pub fn literal(path: &str) -> Self {
        Self { segments: path.split('/').map(|segment| Segment::Literal(segment.to_owned())).collect() }
    }
}

impl FromStr for RoutePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fail = |problem: String| Err(PatternError(problem));
        let Some(path) = text.strip_prefix('/') else {
            return fail("must start with /".into());
        };
        if text.len() > Self::MAX_BYTES {
            return fail(format!("is {} bytes long; the longest allowed is {}", text.len(), Self::MAX_BYTES));
        }
        if path.starts_with('@') {
            return fail("must not start with /@, which addresses an app".into());
        }
        let mut segments = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for part in path.split('/') {
            if let Some(Segment::Rest(name)) = segments.last() {
                return fail(format!("has more after *{name}, which must be last"));
            }
            if segments.len() == Self::MAX_SEGMENTS {
                return fail(format!("has more than {} segments", Self::MAX_SEGMENTS));
            }
            let (name, segment) = match part.split_at_checked(1) {
                Some((":", name)) => (Some(name), Segment::Param(name.to_owned())),
                Some(("*", name)) => (Some(name), Segment::Rest(name.to_owned())),
                _ => (None, Segment::Literal(part.to_owned())),
            };
            if let Some(name) = name {
                if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    return fail(format!(
                        "has the parameter {part:?}; its name may have a-z, A-Z, 0-9 and _"
                    ));
                }
                if names.contains(&name) {
                    return fail(format!("has two parameters named {name}"));
                }
                names.push(name);
            } else if part == "." || part == ".." {
                return fail("must not have . or .. as a segment".into());
            } else if let Some(c) =
                part.chars().find(|c| c.is_control() || matches!(c, '?' | '#' | '\\' | '%'))
            {
                return fail(format!("contains {c:?}; write the decoded path, without ?, #, \\ and %"));
            }
            segments.push(segment);
        }
        Ok(Self { segments })
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Param(name) => write!(f, "/:{name}")?,
                Segment::Rest(name) => write!(f, "/*{name}")?,
            }
        }
        Ok(())
    }
}

/// The methods that a route can name. `TRACE` and `CONNECT` are never routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET; answers HEAD as well, without the body.
    Get,
    /// HEAD, where a script wants to see it.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// OPTIONS, where a script wants to answer it itself.
    Options,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// The method as it stands in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Whether it only reads (RFC 9110, section 9.2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    /// Whether its requests usually have a body.
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|method| method.as_str() == text);
        known.ok_or_else(|| {
            format!(
                "method {text:?} cannot be routed; allowed are GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
            )
        })
    }
}

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodSet(u8);

impl MethodSet {
    /// Every method.
    pub const ANY: Self = Self(0x7f);

    /// This set and `method`.
    pub const fn with(self, method: Method) -> Self {
        Self(self.0 | (1 << method as u8))
    }

    /// This set and `other`.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `method` is named.
    pub const fn contains(self, method: Method) -> bool {
        self.0 & (1 << method as u8) != 0
    }

    /// The named methods.
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.into_iter().filter(move |method| self.contains(*method))
    }

    /// The value of an `Allow` header: HEAD is allowed where GET is, OPTIONS always.
    pub fn allow(self) -> String {
        let mut set = self.with(Method::Options);
        if set.contains(Method::Get) {
            set = set.with(Method::Head);
        }
        set.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl FromIterator<Method> for MethodSet {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Self {
        methods.into_iter().fold(Self::default(), Self::with)
    }
}

/// The routes of one app, as a tree of segments. `T` is what a route leads to.
#[derive(Clone, Debug)]
pub struct RouteTable<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    literals: BTreeMap<String, Node<T>>,
    param: Option<Box<Node<T>>>,
    routes: Vec<Route<T>>,
    rests: Vec<Route<T>>,
}

#[derive(Clone, Debug)]
struct Route<T> {
    methods: MethodSet,
    names: Vec<String>,
    target: T,
}

/// What a path and a method lead to.
#[derive(Debug, PartialEq, Eq)]
pub enum RouteMatch<'a, T> {
    /// A route.
    Found {
        /// What it leads to.
        target: &'a T,
        /// Its parameters.
        params: Params,
    },
    /// The path has routes, but none for this method.
    MethodNotAllowed {
        /// The methods it has.
        allowed: MethodSet,
    },
    /// No route has this path.
    NotFound,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: BTreeMap::new(), param: None, routes: Vec::new(), rests: Vec::new() }
    }
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> RouteTable<T> {
    /// Adds a route. Of two routes with the same shape and a shared method, the first added wins.
    pub fn insert(&mut self, pattern: &RoutePattern, methods: MethodSet, target: T) {
        let mut node = &mut self.root;
        let mut names = Vec::new();
        for segment in &pattern.segments {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::Param(name) => {
                    names.push(name.clone());
                    node = node.param.get_or_insert_default();
                }
                Segment::Rest(name) => {
                    names.push(name.clone());
                    node.rests.push(Route { methods, names, target });
                    return;
                }
            }
        }
        node.routes.push(Route { methods, names, target });
    }

    /// Finds the route for a decoded path. `segments` are the parts between slashes, each decoded on its own,
    /// so that an encoded slash stays inside its segment. A route of another method does not hide a less
    /// specific one that has this method. `HEAD` falls back to `GET`.
    pub fn find(&self, method: Method, segments: &[&str]) -> RouteMatch<'_, T> {
        let mut search = Search { method, values: Vec::new(), allowed: MethodSet::default() };
        if let Some((route, values)) = search.descend(&self.root, segments) {
            let params = route.names.iter().cloned().zip(values).collect();
            return RouteMatch::Found { target: &route.target, params };
        }
        if search.allowed == MethodSet::default() {
            RouteMatch::NotFound
        } else {
            RouteMatch::MethodNotAllowed { allowed: search.allowed }
        }
    }
}

struct Search<'p> {
    method: Method,
    values: Vec<&'p str>,
    allowed: MethodSet,
}

impl<'p> Search<'p> {
    /// Depth is bounded by [`RoutePattern::MAX_SEGMENTS`], since a node exists only where a pattern led.
    fn descend<'t, T>(
        &mut self,
        node: &'t Node<T>,
        segments: &[&'p str],
    ) -> Option<(&'t Route<T>, Vec<String>)> {
        let Some((first, others)) = segments.split_first() else {
            return self.choose(&node.routes).map(|route| (route, self.owned_values(None)));
        };
        if let Some(next) = node.literals.get(*first)
            && let Some(found) = self.descend(next, others)
        {
            return Some(found);
        }
        if let Some(next) = &node.param
            && !first.is_empty()
        {
            self.values.push(first);
            if let Some(found) = self.descend(next, others) {
                return Some(found);
            }
            self.values.pop();
        }
        let rest = || segments.join("/");
        self.choose(&node.rests).map(|route| (route, self.owned_values(Some(rest()))))
    }

    fn choose<'t, T>(&mut self, routes: &'t [Route<T>]) -> Option<&'t Route<T>> {
        let by = |method: Method| routes.iter().find(move |route| route.methods.contains(method));
        let found =
            by(self.method).or_else(|| if self.method == Method::Head { by(Method::Get) } else { None });
        if found.is_none() {
            for route in routes {
                self.allowed = self.allowed.union(route.methods);
            }
        }
        found
    }

    fn owned_values(&self, rest: Option<String>) -> Vec<String> {
        self.values.iter().map(|value| (*value).to_owned()).chain(rest).collect()
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
