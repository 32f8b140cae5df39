//! The service's error codes, and what a client does about each.
//!
//! The codes are those of Microsoft's reference, and some that the reference leaves out but clients meet: `AF20024`,
//! `AF429`'s twin `429`, `AF50005` and `AF50006`. The reference gives no HTTP statuses; those here are what has been
//! observed, else what fits. A client must go by the code first and by the status only where it doesn't know the code.

use std::time::Duration;

use serde::Deserialize;

/// What a client does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Nothing: what was asked for is so already.
    Done,
    /// Get a new token and ask once more.
    RenewToken,
    /// Start the subscription, then ask again.
    Subscribe,
    /// The window is not allowed: bring it into what is (24 hours long, beginning no more than 7 days ago, by the
    /// server's clock) and ask again.
    ClampWindow,
    /// The page is gone: list the window from its beginning.
    RestartListing,
    /// This content can't be had any more. Its period has to be stated as a gap.
    Expired,
    /// This content does not exist. Asking again is of no use; the rest of the listing is.
    DropContent,
    /// Too many requests: wait, then ask again.
    SlowDown,
    /// A failure of the service: ask again, with growing pauses.
    Retry,
    /// Asking again is of no use until a person has changed something: what that is.
    GiveUp(&'static str),
}

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// The code as the service writes it.
    pub code: &'static str,
    /// The HTTP status that it comes with; see the module's text on how sure that is.
    pub status: u16,
    /// What to do.
    pub behaviour: Behaviour,
}

const fn code(code: &'static str, status: u16, behaviour: Behaviour) -> ErrorCode {
    ErrorCode { code, status, behaviour }
}

const REQUEST: &str =
    "the service does not accept the request; check base_url and the tenant's settings, and report it";

/// Every code that is known.
pub const ERROR_CODES: [ErrorCode; 26] = [
    code(
        "AF10001",
        401,
        Behaviour::GiveUp(
            "the application lacks a permission: grant it ActivityFeed.Read (and ActivityFeed.ReadDlp for DLP.All) of \
             the Office 365 Management APIs as application permissions, with an administrator's consent",
        ),
    ),
    code("AF20001", 400, Behaviour::GiveUp(REQUEST)),
    code("AF20002", 400, Behaviour::GiveUp(REQUEST)),
    code("AF20003", 400, Behaviour::GiveUp(REQUEST)),
    code(
        "AF20010",
        400,
        Behaviour::GiveUp("the token is of another tenant than the one asked for: check the tenant's id"),
    ),
    code(
        "AF20011",
        400,
        Behaviour::GiveUp(
            "the service does not know the tenant: check its id, its cloud, and that its audit log is turned on",
        ),
    ),
    code("AF20012", 400, Behaviour::GiveUp("the tenant is not set up properly: ask Microsoft's support")),
    code("AF20013", 400, Behaviour::GiveUp("the tenant's id is not a GUID: check it")),
    code("AF20020", 400, Behaviour::GiveUp("the service does not know this content type: remove it")),
    code("AF20021", 400, Behaviour::GiveUp("the subscription's webhook does not answer: remove or repair the webhook")),
    code("AF20022", 400, Behaviour::Subscribe),
    code("AF20023", 400, Behaviour::GiveUp("an administrator has disabled the subscription: have it enabled again")),
    code("AF20024", 400, Behaviour::Done),
    code("AF20030", 400, Behaviour::ClampWindow),
    code("AF20031", 400, Behaviour::RestartListing),
    code("AF20050", 404, Behaviour::DropContent),
    code("AF20051", 404, Behaviour::Expired),
    code("AF20052", 400, Behaviour::DropContent),
    code("AF20053", 400, Behaviour::GiveUp(REQUEST)),
    code("AF20054", 400, Behaviour::GiveUp(REQUEST)),
    code("AF20055", 400, Behaviour::ClampWindow),
    code("AF429", 429, Behaviour::SlowDown),
    code("429", 429, Behaviour::SlowDown),
    code("AF50000", 500, Behaviour::Retry),
    code("AF50005", 500, Behaviour::Retry),
    code("AF50006", 500, Behaviour::Retry),
];

/// What an answer that is no success says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    /// The HTTP status.
    pub status: u16,
    /// The service's code, such as `AF20051`; none where the body names none.
    pub code: Option<String>,
    /// The service's words, cut to 500 characters, on one line.
    pub message: String,
    /// What to do.
    pub behaviour: Behaviour,
}

impl ServiceError {
    /// Bytes of an error's body that are looked at.
    const MAX_BODY: usize = 64 * 1024;

    /// Reads an answer. A body that is no error of the service's (a proxy's page, nothing at all) is judged by status.
    pub fn from_answer(status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            error: Option<Inner>,
            #[serde(rename = "Message")]
            message: Option<String>,
        }
        #[derive(Deserialize)]
        struct Inner {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let parsed = body.get(..body.len().min(Self::MAX_BODY)).and_then(|body| serde_json::from_slice(body).ok());
        let (code, message) = match parsed {
            Some(Body { error: Some(Inner { code, message }), .. }) => (Some(one_line(&code, 32)), message),
            Some(Body { message: Some(message), .. }) => (None, message),
            _ => (None, String::new()),
        };
        let code = code.filter(|code| !code.is_empty());
        let known = code.as_deref().and_then(lookup);
        let behaviour = known.map_or_else(|| by_status(status), |known| known.behaviour);
        Self { status, code, message: one_line(&message, 500), behaviour }
    }

    /// How long the service's words ask to wait: `Please retry again after 8m 46s.`
    pub fn wait(&self) -> Option<Duration> {
        let (_, after) = self.message.split_once("retry again after ")?;
        let (mut seconds, mut parts) = (0_u64, 0);
        for part in after.trim_end_matches('.').split(' ') {
            let number = part.get(..part.len().checked_sub(1)?)?.parse::<u64>().ok()?;
            let unit = match part.as_bytes().last()? {
                b'h' => 3600,
                b'm' => 60,
                b's' => 1,
                _ => return None,
            };
            seconds = seconds.checked_add(number.checked_mul(unit)?)?;
            parts += 1;
        }
        (parts > 0).then_some(Duration::from_secs(seconds))
    }
}

impl std::fmt::Display for ServiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the service answered {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Behaviour::GiveUp(advice) = self.behaviour {
            write!(f, " ({advice})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServiceError {}

/// What is known of a code. Letters count in any case.
pub fn lookup(code: &str) -> Option<&'static ErrorCode> {
    ERROR_CODES.iter().find(|known| known.code.eq_ignore_ascii_case(code))
}

/// What to do about an answer whose code says nothing.
fn by_status(status: u16) -> Behaviour {
    match status {
        401 => Behaviour::RenewToken,
        404 | 410 => Behaviour::DropContent,
        408 | 425 | 500..=599 => Behaviour::Retry,
        429 => Behaviour::SlowDown,
        403 => Behaviour::GiveUp("access is refused: check the application's permissions and any proxy on the way"),
        _ => Behaviour::GiveUp(REQUEST),
    }
}

/// The text without control characters, so that it stays on one line of a log, cut to so many characters.
fn one_line(text: &str, characters: usize) -> String {
    text.trim().chars().take(characters).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behaviour(status: u16, body: &str) -> Behaviour {
        ServiceError::from_answer(status, body.as_bytes()).behaviour
    }

    #[test]
    fn the_code_decides_and_the_status_where_it_says_nothing() {
        let error = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        assert_eq!(behaviour(400, &error("AF20024")), Behaviour::Done);
        assert_eq!(behaviour(403, &error("AF429")), Behaviour::SlowDown);
        assert_eq!(behaviour(403, &error("429")), Behaviour::SlowDown);
        assert_eq!(behaviour(400, &error("af20051")), Behaviour::Expired);
        assert_eq!(behaviour(503, &error("AF99999")), Behaviour::Retry);
        assert_eq!(
            behaviour(401, r#"{"Message":"Authorization has been denied for this request."}"#),
            Behaviour::RenewToken
        );
        assert_eq!(behaviour(404, ""), Behaviour::DropContent);
        assert_eq!(behaviour(502, "<html>"), Behaviour::Retry);
        assert!(matches!(behaviour(403, "<html>"), Behaviour::GiveUp(_)));
    }

    #[test]
    fn the_wait_that_the_service_asks_for_is_read_from_its_words() {
        let body = concat!(
            r#"{"error":{"code":"429","message":"Too many frequent subscription start requests. "#,
            r#"Please retry again after 8m 46s."}}"#
        );
        assert_eq!(ServiceError::from_answer(403, body.as_bytes()).wait(), Some(Duration::from_secs(526)));
        for words in ["", "Please retry again after ", "retry again after é", "retry again after 99999999999999999999h"]
        {
            let body = format!(r#"{{"error":{{"code":"429","message":"{words}"}}}}"#);
            assert_eq!(ServiceError::from_answer(403, body.as_bytes()).wait(), None, "{words}");
        }
    }

    #[test]
    fn a_message_stays_on_one_line_and_is_cut() {
        let body = format!(r#"{{"error":{{"code":"AF50000","message":"a\nb{}"}}}}"#, "x".repeat(1000));
        let error = ServiceError::from_answer(500, body.as_bytes());
        assert_eq!(error.message.chars().count(), 500);
        assert!(error.to_string().starts_with("the service answered 500 AF50000: a bx"), "{error}");
        let huge = format!(r#"{{"error":{{"code":"AF20051","message":"{}"}}}}"#, "x".repeat(1 << 20));
        assert_eq!(behaviour(500, &huge), Behaviour::Retry, "a body that long is not read");
    }

    #[test]
    fn no_code_is_listed_twice() {
        let mut codes: Vec<_> = ERROR_CODES.iter().map(|known| known.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ERROR_CODES.len());
    }
}
