//! Histories of calls, and what a breaker makes of them.

use super::*;

const NOW: Timestamp = Timestamp(1_795_478_400_000);

fn fault(breaker: &mut Breaker, now: Timestamp) -> Option<Change> {
    let admission = breaker.admit(now);
    breaker.record(admission, Health::Fault, now, 0.0)
}

fn broken() -> Breaker {
    let mut breaker = Breaker::default();
    for _ in 0..FAULTS_MIN {
        fault(&mut breaker, NOW);
    }
    breaker
}

#[test]
fn five_faults_that_are_more_than_half_open_it() {
    let mut breaker = Breaker::default();
    for _ in 0..5 {
        let admission = breaker.admit(NOW);
        breaker.record(admission, Health::Well, NOW, 0.0);
    }
    for _ in 0..5 {
        assert_eq!(fault(&mut breaker, NOW), None);
    }
    let until = NOW + PAUSE_FIRST;
    assert_eq!(fault(&mut breaker, NOW), Some(Change::Opened { until }));
    assert_eq!(breaker.admit(NOW), Admission::Refused { until });
}

#[test]
fn faults_that_are_long_ago_do_not_count() {
    let mut breaker = Breaker::default();
    for at in 0..20 {
        let now = NOW + WINDOW / 4 * at;
        assert_eq!(fault(&mut breaker, now), None, "{at}");
    }
}

#[test]
fn one_trial_decides_and_pauses_grow_to_a_bound() {
    let mut breaker = broken();
    let mut now = NOW + PAUSE_FIRST;
    for openings in 2..12u32 {
        assert_eq!(breaker.admit(now), Admission::Trial);
        assert!(matches!(breaker.admit(now), Admission::Refused { .. }));
        let Some(Change::Opened { until }) =
            breaker.record(Admission::Trial, Health::Fault, now, 0.0)
        else {
            panic!("a trial that failed opens it again");
        };
        let wanted = PAUSE_FIRST
            .saturating_mul(1 << (openings - 1))
            .min(PAUSE_MAX);
        assert_eq!(until.since(now), wanted);
        now = until;
    }
    assert_eq!(breaker.admit(now), Admission::Trial);
    let closed = breaker.record(Admission::Trial, Health::Well, now, 0.0);
    assert_eq!(closed, Some(Change::Closed));
    assert_eq!(breaker.admit(now), Admission::Run);
}

#[test]
fn a_trial_that_was_dropped_leaves_the_next_call_to_try() {
    let mut breaker = broken();
    let now = NOW + PAUSE_FIRST;
    assert_eq!(breaker.admit(now), Admission::Trial);
    assert_eq!(
        breaker.record(Admission::Trial, Health::Unknown, now, 0.0),
        None
    );
    assert_eq!(breaker.admit(now), Admission::Trial);
}

#[test]
fn who_was_steady_begins_with_the_first_pause_again() {
    for (well_for, wanted) in [
        (STEADY_AFTER, PAUSE_FIRST),
        (STEADY_AFTER / 2, PAUSE_FIRST * 2),
    ] {
        let mut breaker = broken();
        let closed = NOW + PAUSE_FIRST;
        breaker.admit(closed);
        breaker.record(Admission::Trial, Health::Well, closed, 0.0);
        let now = closed + well_for;
        let last = (0..FAULTS_MIN).map(|_| fault(&mut breaker, now)).last();
        let until = now + wanted;
        assert_eq!(last, Some(Some(Change::Opened { until })));
    }
}

#[test]
fn one_tenant_does_not_decide_for_many() {
    for (open, calling, running, wanted) in [
        (1, 1, 1, true),
        (1, 1, 2, false),
        (2, 2, 2, true),
        (2, 2, 9, false),
        (3, 15, 100, true),
        (3, 16, 100, false),
        (0, 0, 0, false),
    ] {
        let is = is_broken_everywhere(open, calling, running);
        assert_eq!(is, wanted, "{open} of {calling} and {running}");
    }
}

/// What happens to a breaker, after so many seconds.
#[derive(Clone, Copy, Debug)]
enum Step {
    Call(Health),
    /// A call that ends only after the next steps.
    Slow(Health),
}

/// The rules said as plainly as possible: every call is kept, nothing is counted in advance.
#[derive(Default)]
struct Oracle {
    calls: Vec<(i64, bool)>,
    open_until: Option<i64>,
    openings: u32,
    closed_at: Option<i64>,
}

impl Oracle {
    fn may_run(&self, now: i64) -> bool {
        self.open_until.is_none_or(|until| now >= until)
    }

    fn ended(&mut self, is_fault: bool, now: i64) {
        if let Some(_until) = self.open_until.take() {
            if is_fault {
                self.open(now);
            } else {
                self.closed_at = Some(now);
            }
            return;
        }
        self.calls.push((now.div_euclid(30_000), is_fault));
        let oldest = now.div_euclid(30_000) - 9;
        let recent = self.calls.iter().filter(|(slot, _)| *slot >= oldest);
        let recent: Vec<bool> = recent.map(|(_, is_fault)| *is_fault).collect();
        let faults = recent.iter().filter(|is_fault| **is_fault).count();
        if is_fault && faults >= 5 && faults > recent.len() - faults {
            self.open(now);
        }
    }

    fn open(&mut self, now: i64) {
        if self.closed_at.is_some_and(|closed| now - closed >= 900_000) {
            self.openings = 0;
        }
        self.closed_at = None;
        self.openings += 1;
        let pause = (30_000_i64 << (self.openings - 1).min(10)).min(900_000);
        self.open_until = Some(now + pause);
        self.calls.clear();
    }
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<(u16, Step)>> {
    use proptest::prelude::*;
    let health = prop_oneof![
        3 => Just(Health::Fault),
        2 => Just(Health::Well),
        1 => Just(Health::Unknown)
    ];
    let step =
        (health, proptest::bool::weighted(0.2)).prop_map(|(health, is_slow)| match is_slow {
            true => Step::Slow(health),
            false => Step::Call(health),
        });
    let wait = prop_oneof![4 => 0..20u16, 1 => 20..1200u16];
    proptest::collection::vec((wait, step), 0..200)
}

proptest::proptest! {
    #[test]
    fn it_does_what_its_rules_say_whatever_happens(steps in steps()) {
        let (mut breaker, mut oracle, mut now) = (Breaker::default(), Oracle::default(), NOW);
        for (wait, step) in steps {
            now = now + Duration::from_secs(u64::from(wait));
            let Step::Call(health) = step else {
                continue;
            };
            let admission = breaker.admit(now);
            let may_run = !matches!(admission, Admission::Refused { .. });
            proptest::prop_assert_eq!(may_run, oracle.may_run(now.0));
            if !may_run {
                continue;
            }
            breaker.record(admission, health, now, 0.0);
            match health {
                Health::Unknown => {}
                health => oracle.ended(health == Health::Fault, now.0),
            }
            let is_open = matches!(breaker.state(), State::Open { .. });
            proptest::prop_assert_eq!(is_open, oracle.open_until.is_some());
        }
    }

    #[test]
    fn calls_that_end_late_never_leave_it_stuck(steps in steps(), random in 0.0..1.0f64) {
        let (mut breaker, mut now) = (Breaker::default(), NOW);
        let mut slow: Vec<(Admission, Health)> = Vec::new();
        for (wait, step) in steps {
            now = now + Duration::from_secs(u64::from(wait));
            let admission = breaker.admit(now);
            match step {
                Step::Slow(health) => slow.push((admission, health)),
                Step::Call(health) => {
                    breaker.record(admission, health, now, random);
                    if let Some((admission, health)) = slow.pop() {
                        breaker.record(admission, health, now, random);
                    }
                }
            }
            let trials = slow.iter().filter(|(admission, _)| *admission == Admission::Trial);
            proptest::prop_assert!(trials.count() <= 1, "two trials at a time");
        }
        for (admission, health) in slow {
            breaker.record(admission, health, now, random);
        }
        // Whatever happened: after the longest pause somebody may try, and a good trial closes it.
        let later = now + PAUSE_MAX;
        let admission = breaker.admit(later);
        let is_let_in = matches!(admission, Admission::Run | Admission::Trial);
        proptest::prop_assert!(is_let_in);
        breaker.record(admission, Health::Well, later, random);
        proptest::prop_assert_eq!(breaker.state(), State::Closed);
    }
}
