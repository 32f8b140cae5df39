//! The rows of the environment that registration reads, as the Web API gives them.

use actlog_core::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

/// A message that steps can be registered for, with the tables that they can be limited to.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Message {
    #[serde(rename = "sdkmessageid")]
    pub(crate) id: Uuid,
    pub(crate) name: String,
    #[serde(rename = "sdkmessageid_sdkmessagefilter", default)]
    pub(crate) filters: Vec<Filter>,
    /// Whether `filters` holds a part of them only.
    #[serde(rename = "sdkmessageid_sdkmessagefilter@odata.nextLink")]
    pub(crate) more: Option<String>,
}

/// A table that a message's step can be limited to.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Filter {
    #[serde(rename = "sdkmessagefilterid")]
    pub(crate) id: Uuid,
    /// Logical name; `none` for messages that are about no table.
    #[serde(rename = "primaryobjecttypecode")]
    pub(crate) table: String,
}

/// The service endpoint that steps post to. Its `authvalue` can't be read.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Endpoint {
    #[serde(rename = "serviceendpointid")]
    pub(crate) id: Uuid,
    pub(crate) url: Option<String>,
    pub(crate) authtype: Option<i32>,
    pub(crate) messagecharset: Option<i32>,
    pub(crate) description: Option<String>,
}

/// A registered step.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Step {
    #[serde(rename = "sdkmessageprocessingstepid")]
    pub(crate) id: Uuid,
    pub(crate) name: Option<String>,
    pub(crate) mode: Option<i32>,
    pub(crate) stage: Option<i32>,
    pub(crate) statecode: Option<i32>,
    pub(crate) asyncautodelete: Option<bool>,
    pub(crate) filteringattributes: Option<String>,
    #[serde(rename = "_sdkmessageid_value")]
    pub(crate) message: Option<Uuid>,
    #[serde(rename = "_sdkmessagefilterid_value")]
    pub(crate) filter: Option<Uuid>,
}

/// A system job of one of our steps.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Job {
    #[serde(rename = "asyncoperationid")]
    pub(crate) id: Uuid,
    pub(crate) statuscode: Option<i32>,
    pub(crate) createdon: Timestamp,
    /// What it failed with, for people.
    pub(crate) friendlymessage: Option<String>,
    pub(crate) message: Option<String>,
}

/// The organisation's row.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct OrganizationRow {
    pub(crate) isauditenabled: Option<bool>,
    pub(crate) isreadauditenabled: Option<bool>,
    pub(crate) isuseraccessauditenabled: Option<bool>,
    pub(crate) useraccessauditinginterval: Option<i32>,
    pub(crate) auditretentionperiodv2: Option<i32>,
}

impl Message {
    /// What to ask for: every message that steps can be registered for, with its tables. The list of the environment
    /// is what counts, not a table of ours. `Execute` is left out because it would tell everything a second time; the
    /// other three are older names of messages that are in the list.
    pub(crate) const QUERY: &str = "sdkmessages?$select=name,sdkmessageid&$filter=isprivate eq false \
         and (name ne 'SetStateDynamicEntity' and name ne 'RemoveRelated' and name ne 'SetRelated' and name ne 'Execute') \
         and sdkmessageid_sdkmessagefilter/any(s:s/iscustomprocessingstepallowed eq true and s/isvisible eq true)\
         &$expand=sdkmessageid_sdkmessagefilter($select=sdkmessagefilterid,primaryobjecttypecode;\
         $filter=iscustomprocessingstepallowed eq true and isvisible eq true)&$orderby=name";

    /// The tables of one message, where there are more than came with it.
    pub(crate) fn filters_query(&self) -> String {
        format!(
            "sdkmessagefilters?$select=sdkmessagefilterid,primaryobjecttypecode&$filter=_sdkmessageid_value eq {} \
             and iscustomprocessingstepallowed eq true and isvisible eq true",
            self.id
        )
    }
}

impl Endpoint {
    pub(crate) const SELECT: &str = "serviceendpointid,name,url,authtype,messagecharset,description";
}

impl Step {
    pub(crate) const SELECT: &str = "sdkmessageprocessingstepid,name,mode,stage,statecode,asyncautodelete,\
         filteringattributes,_sdkmessageid_value,_sdkmessagefilterid_value";
}

impl Job {
    pub(crate) const SELECT: &str = "asyncoperationid,statuscode,createdon,friendlymessage,message";

    /// The platform's words for why it failed, without control characters.
    pub(crate) fn reason(&self) -> String {
        let text = [&self.friendlymessage, &self.message].into_iter().flatten().find(|text| !text.trim().is_empty());
        let text = text.map_or("no reason is given", String::as_str);
        crate::output::harmless(text.trim()).chars().take(300).collect()
    }
}

impl OrganizationRow {
    pub(crate) const SELECT: &str =
        "isauditenabled,isreadauditenabled,isuseraccessauditenabled,useraccessauditinginterval,auditretentionperiodv2";
}
