//! Social Engagement.
