//! What a step makes of a track; pure, so that it can be made again from what is there then.

use shoal_model::grant::{Grants, Kind};

use super::{Approve, By, Publish, RollBack};
use crate::audit::Audit;
use crate::db::tracks::{Release, TrackRow, Trial};
use crate::plugins::catalogue::{Catalogue, Known};
use crate::plugins::registry::NotRunnable;
use crate::plugins::wishes::Wish;

/// Versions to which a track can go back, beside the active one.
const FORMER_MAX: usize = 8;

/// One step that is planned: what to write, or that there is nothing to do.
pub(super) enum Plan {
    Done(TrackRow),
    Write(Box<Release>),
}

/// Whether a release concerns an installation.
pub(super) fn is_touched(wish: &Wish, publish: &Publish) -> bool {
    let row = &wish.row;
    let follows = row.plugin_id == publish.plugin
        && row.track == publish.track
        && row.pinned_digest.is_none();
    let is_chosen = match &publish.trial {
        Some(Trial::Canary(tenants)) => tenants.contains(&row.tenant()),
        Some(Trial::Shadow { .. }) | None => true,
    };
    follows && is_chosen
}

/// What is approved for a version, or is to be.
pub(super) fn approved(
    catalogue: &Catalogue,
    known: &Known,
    track: &TrackRow,
    approve: &Approve,
) -> Result<Grants, NotRunnable> {
    let (plugin, digest) = (&known.row.plugin_id, &known.row.digest);
    match (approve, known.row.approved()?) {
        (Approve::Now(grants), _) => Ok(grants.clone()),
        (_, Some(approved)) => Ok(approved),
        (Approve::Before, None) => Err(reason(format!(
            "version {} of {plugin} ({digest}) is not approved; approve it with: shoal plugin approve {plugin} --digest {digest}",
            known.row.version
        ))),
        (Approve::Inherited, None) => {
            let active = track.active_digest.as_ref();
            let active = active.and_then(|digest| catalogue.version(digest));
            let before = match active {
                Some(active) => active.row.approved()?.unwrap_or_default(),
                None => Grants::default(),
            };
            let asked = known.manifest.asked();
            let more: Vec<String> = asked.missing_in(&before).map(ToString::to_string).collect();
            if more.is_empty() {
                return Ok(asked);
            }
            Err(reason(format!(
                "version {} of {plugin} asks for more than the active version was approved for: {}; approve it with: shoal plugin approve {plugin} --digest {digest}",
                known.row.version,
                more.join(", ")
            )))
        }
    }
}

/// Makes a version the active one of a track.
pub(super) fn activate(track: &mut TrackRow, digest: &str) -> Result<(), NotRunnable> {
    let mut former = track.former()?;
    former.retain(|one| one != digest);
    if let Some(active) = track.active_digest.replace(digest.to_owned())
        && active != digest
    {
        former.insert(0, active);
    }
    former.truncate(FORMER_MAX);
    track.set_former(&former);
    track.set_candidate(None);
    Ok(())
}

/// Begins to try a version on a track.
pub(super) fn try_out(
    track: &mut TrackRow,
    known: &Known,
    trial: &Trial,
) -> Result<(), NotRunnable> {
    let (plugin, name, digest) = (&known.row.plugin_id, &track.track, &known.row.digest);
    let problem = match (&track.active_digest, &track.candidate_digest) {
        (None, _) => Some(format!(
            "nothing is active on track {name} of {plugin} that {} could be tried beside; publish a version first",
            known.row.version
        )),
        (Some(active), _) if active == digest => Some(format!(
            "version {} is active on track {name} already",
            known.row.version
        )),
        (_, Some(tried)) if tried != digest => Some(format!(
            "{tried} is tried on track {name} already; end that with: shoal plugin abandon {plugin} --track {name}, or promote it"
        )),
        _ => None,
    };
    let is_shadowable = [Kind::Receiver, Kind::BillingRule].map(Kind::as_str);
    let problem = problem.or_else(|| match trial {
        Trial::Canary(tenants) if tenants.is_empty() => {
            Some("a canary needs a tenant to run for".to_owned())
        }
        Trial::Shadow { needed: 0 } => {
            Some("a shadow needs at least one equal answer before it becomes active".to_owned())
        }
        Trial::Shadow { .. } if !is_shadowable.contains(&&*known.row.kind) => Some(format!(
            "a {} cannot run as a shadow, because its calls have effects outside; try it with --canary TENANT",
            known.row.kind
        )),
        _ => None,
    });
    if let Some(problem) = problem {
        return Err(reason(problem));
    }
    track.set_candidate(Some((digest, trial)));
    Ok(())
}

pub(super) fn roll_back(
    catalogue: &Catalogue,
    back: &RollBack,
    by: &By,
) -> Result<Plan, NotRunnable> {
    let RollBack { plugin, track, .. } = back;
    let mut row = stored_track(catalogue, plugin, track)?;
    let tried = row.candidate_digest.clone();
    match (&back.from, &tried) {
        (Some(from), Some(tried)) if from == tried => {
            return Ok(abandon(catalogue, row, from, by));
        }
        (Some(from), _) if row.active_digest.as_ref() != Some(from) => return Ok(Plan::Done(row)),
        (None, Some(tried)) if back.to.is_none() => {
            return Err(reason(format!(
                "{tried} is tried on track {track}; end that with: shoal plugin abandon {plugin} --track {track}, or say where to go back to with --to DIGEST"
            )));
        }
        _ => {}
    }
    let former = row.former()?;
    let may_run = |digest: &&String| {
        let known = catalogue.version_of(plugin, digest);
        known.is_some_and(|known| known.row.approval.is_some())
    };
    let to = match &back.to {
        Some(to) => former.iter().filter(may_run).find(|digest| *digest == to),
        None => former.iter().find(may_run),
    };
    let Some(to) = to.cloned() else {
        return Err(reason(match &back.to {
            Some(to) => format!(
                "{to} is no approved version that was active on track {track} before; publish it with: shoal plugin publish {plugin} --track {track} --digest {to}"
            ),
            None => format!("no approved version of {plugin} was active on track {track} before"),
        }));
    };
    let known = catalogue.found(plugin, &to)?;
    let rest = former.iter().skip_while(|digest| **digest != to).skip(1);
    row.set_former(&rest.cloned().collect::<Vec<_>>());
    row.active_digest = Some(to.clone());
    row.set_candidate(None);
    Ok(write("rollback", row, known, by))
}

pub(super) fn abandon(catalogue: &Catalogue, mut row: TrackRow, digest: &str, by: &By) -> Plan {
    let known = catalogue.version_of(&row.plugin_id, digest).cloned();
    row.set_candidate(None);
    match known {
        Some(known) => write("abandon", row, &known, by),
        None => Plan::Done(row),
    }
}

/// Takes a version that is withdrawn off the tracks on which it is active or tried.
pub(super) fn withdrawals(
    catalogue: &Catalogue,
    known: &Known,
    is_forced: bool,
    by: &By,
) -> Result<Vec<Release>, NotRunnable> {
    let (plugin, digest) = (&known.row.plugin_id, &known.row.digest);
    let mut releases = Vec::new();
    for track in catalogue.tracks_of(plugin) {
        let mut track = track.clone();
        let is_active = track.active_digest.as_ref() == Some(digest);
        let is_tried = track.candidate_digest.as_ref() == Some(digest);
        if is_active && !is_forced {
            let name = &track.track;
            return Err(reason(format!(
                "version {} is active on track {name}; go back first with: shoal plugin rollback {plugin} --track {name}, or give --force to leave the track without a version",
                known.row.version
            )));
        }
        if is_active {
            track.active_digest = None;
        }
        if is_tried {
            track.set_candidate(None);
        }
        if (is_active || is_tried)
            && let Plan::Write(release) = write("withdraw", track, known, by)
        {
            releases.push(*release);
        }
    }
    Ok(releases)
}

pub(super) fn write(action: &'static str, track: TrackRow, known: &Known, by: &By) -> Plan {
    Plan::Write(Box::new(Release {
        action,
        digest: known.row.digest.clone(),
        reason: by.reason.clone(),
        approval: None,
        settings: Vec::new(),
        audit: audit(audit_action(action), known, Some(&track), by),
        track,
    }))
}

pub(super) fn audit_action(action: &str) -> &'static str {
    match action {
        "canary" => "plugin.canary",
        "shadow" => "plugin.shadow",
        "promote" => "plugin.promote",
        "abandon" => "plugin.abandon",
        "rollback" => "plugin.rollback",
        "withdraw" => "plugin.withdraw",
        _ => "plugin.publish",
    }
}

pub(super) fn audit(
    action: &'static str,
    known: &Known,
    track: Option<&TrackRow>,
    by: &By,
) -> Audit {
    Audit {
        tenant: None,
        actor: by.actor.clone(),
        action,
        subject: known.row.plugin_id.clone(),
        detail: serde_json::json!({
            "version": known.row.version,
            "digest": known.row.digest,
            "track": track.map(|track| &track.track),
            "reason": by.reason,
        }),
    }
}

/// Says in a line what is approved.
pub(super) fn note_approved(audit: &mut Audit, approved: &Grants) {
    let approved = approved.0.iter().map(ToString::to_string);
    audit.detail["approved"] = approved.collect::<Vec<_>>().into();
}

pub(super) fn is_tried(catalogue: &Catalogue, plugin: &str, track: &str, digest: &str) -> bool {
    catalogue
        .track(plugin, track)
        .is_some_and(|row| row.candidate_digest.as_deref() == Some(digest))
}

pub(super) fn stored_track(
    catalogue: &Catalogue,
    plugin: &str,
    track: &str,
) -> Result<TrackRow, NotRunnable> {
    catalogue.track(plugin, track).cloned().ok_or_else(|| {
        let name: String = track.chars().take(100).collect();
        NotRunnable::Unknown(format!(
            "plugin {plugin:?} has no track {name:?}; publish a version on it with: shoal plugin publish {plugin} --track {name}"
        ))
    })
}

fn reason(text: String) -> NotRunnable {
    NotRunnable::Reason(text)
}
