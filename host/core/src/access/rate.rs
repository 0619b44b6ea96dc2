//! How many requests in how long.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::AccessError;

/// So many requests in so many seconds. As a bucket of tokens: it holds `requests` and is filled again evenly in
/// `seconds`, so that all of them may come at once, and then one in each part of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct RateLimit {
    requests: u32,
    seconds: u32,
}

impl RateLimit {
    /// The most requests.
    pub const MOST_REQUESTS: u32 = 1_000_000;
    /// The most seconds: a day.
    pub const MOST_SECONDS: u32 = 86_400;

    /// A limit of 1 to [`Self::MOST_REQUESTS`] in 1 to [`Self::MOST_SECONDS`].
    pub fn new(requests: u32, seconds: u32) -> Result<Self, AccessError> {
        let range = |value: u32, most: u32, what: &str| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            Err(AccessError(format!("{what} is {value}; allowed is 1 to {most}")))
        };
        range(requests, Self::MOST_REQUESTS, "requests")?;
        range(seconds, Self::MOST_SECONDS, "seconds")?;
        Ok(Self { requests, seconds })
    }

    /// So many requests a second, within what a limit can be.
    pub fn per_second(requests: u64) -> Self {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX).clamp(1, Self::MOST_REQUESTS);
        Self { requests, seconds: 1 }
    }

    /// How many requests.
    pub const fn requests(self) -> u32 {
        self.requests
    }

    /// In how many seconds.
    pub const fn seconds(self) -> u32 {
        self.seconds
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    requests: u32,
    seconds: u32,
}

impl TryFrom<Unchecked> for RateLimit {
    type Error = AccessError;

    fn try_from(given: Unchecked) -> Result<Self, AccessError> {
        Self::new(given.requests, given.seconds)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            1 => write!(f, "{}/s", self.requests),
            60 => write!(f, "{}/min", self.requests),
            3600 => write!(f, "{}/h", self.requests),
            seconds => write!(f, "{}/{seconds}s", self.requests),
        }
    }
}

impl FromStr for RateLimit {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let refused = || {
            AccessError(format!(
                "{text:?} is no rate; allowed is a number and a time, such as 100/min or 5/10s"
            ))
        };
        let (requests, time) = text.split_once('/').ok_or_else(refused)?;
        let (time, unit) = [("min", 60), ("s", 1), ("h", 3600)]
            .into_iter()
            .find_map(|(name, unit)| Some((time.strip_suffix(name)?, unit)))
            .ok_or_else(refused)?;
        let number = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| is_number).ok_or_else(refused)
        };
        let times = if time.is_empty() { 1 } else { number(time)? };
        Self::new(number(requests)?, times.checked_mul(unit).ok_or_else(refused)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_written_as_it_is_read() {
        for text in ["100/min", "5/10s", "1/s", "20/h", "1000000/86400s"] {
            assert_eq!(text.parse::<RateLimit>().unwrap().to_string(), text);
        }
        assert_eq!("7/2min".parse(), RateLimit::new(7, 120));
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for bad in
            ["", "5", "/s", "5/", "5/d", "-5/s", "+5/s", "5/-1s", "5.5/s", "5/s/s", "5 /s", "9999999999/s"]
        {
            let problem = bad.parse::<RateLimit>().unwrap_err().to_string();
            assert!(problem.contains("such as 100/min"), "{bad}: {problem}");
        }
        assert!(
            "0/s".parse::<RateLimit>().unwrap_err().to_string().contains("requests is 0; allowed is 1 to")
        );
        assert!("5/25h".parse::<RateLimit>().unwrap_err().to_string().contains("seconds is 90000"));
    }
}
