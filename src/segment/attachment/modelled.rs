//! The attachments of a model's processes: a process that is copied has those of its parent.

use std::rc::Rc;
use std::sync::Arc;

use super::Attachment;
use crate::loom::execution::{current, Fork};

/// Has the processes that are copied from a member become members, and leave when they end.
pub(super) fn follow(attachment: &Arc<Attachment>) {
    let Some(execution) = current() else { return };
    let attachment = Arc::downgrade(attachment);
    execution.follow_forks(Rc::new(move |fork| {
        let Some(attachment) = attachment.upgrade() else { return };
        match fork {
            Fork::Begins(parent) if attachment.membership.owner_of(parent).is_some() => {
                attachment.owner().expect("a segment has room for each process of a model");
            }
            Fork::Begins(_) => {}
            Fork::Ends => {
                if let Some((owner, hold)) = attachment.membership.leave() {
                    let _ = attachment.leave(owner, hold);
                }
            }
        }
    }));
}
