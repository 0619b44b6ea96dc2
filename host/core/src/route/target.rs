//! What a route leads to.

use std::{fmt, time::Duration};

use super::{Method, MethodSet, PatternError, RoutePattern, Segment};
use crate::{FileFolder, FilePath, ScriptName};

/// What a route leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// A script.
    Script(ScriptName),
    /// A folder of files.
    Files(StaticFiles),
}

/// A folder of files that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticFiles {
    /// The folder. What the route's `*rest` stands for is looked for in it.
    pub folder: FileFolder,
    /// How long an answer other than a page may be kept without asking again; whole seconds, at most
    /// [`StaticFiles::LONGEST_AGE`].
    pub max_age: Option<Duration>,
    /// The file that is answered where there is none, for pages that route by themselves.
    pub fallback: Option<FilePath>,
}

impl StaticFiles {
    /// The longest `max-age`: a year.
    pub const LONGEST_AGE: Duration = Duration::from_hours(365 * 24);

    /// A folder as it is, without a fallback; browsers ask for every file again.
    pub const fn new(folder: FileFolder) -> Self {
        Self { folder, max_age: None, fallback: None }
    }

    /// Checks that a route of this pattern and these methods can serve files.
    pub fn check(pattern: &RoutePattern, methods: MethodSet) -> Result<(), PatternError> {
        if !matches!(pattern.segments.last(), Some(Segment::Rest(_))) {
            let problem = format!("{pattern} leads to files and must end with *path, as in /assets/*path");
            return Err(PatternError(problem));
        }
        match methods.iter().find(|method| !matches!(method, Method::Get | Method::Head)) {
            None => Ok(()),
            Some(method) => Err(PatternError(format!(
                "{pattern} leads to files, which answer GET and HEAD, not {}",
                method.as_str()
            ))),
        }
    }
}

impl From<ScriptName> for RouteTarget {
    fn from(script: ScriptName) -> Self {
        Self::Script(script)
    }
}

impl RouteTarget {
    /// The script, if it is one.
    pub const fn script(&self) -> Option<&ScriptName> {
        match self {
            Self::Script(script) => Some(script),
            Self::Files(_) => None,
        }
    }
}

impl fmt::Display for RouteTarget {
    /// `the script "users"` or `the files of static/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script(script) => write!(f, "the script \"{script}\""),
            Self::Files(files) => write!(f, "the files of {}", files.folder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_need_a_rest_and_are_only_read() {
        let get = MethodSet::default().with(Method::Get);
        let check = |path: &str, methods| StaticFiles::check(&path.parse().unwrap(), methods);
        assert_eq!(check("/assets/*path", get), Ok(()));
        assert_eq!(check("/*path", get.with(Method::Head)), Ok(()));
        assert!(check("/assets", get).unwrap_err().to_string().contains("must end with *path"));
        assert!(check("/*path", MethodSet::ANY).unwrap_err().to_string().contains("GET and HEAD, not POST"));
    }
}
