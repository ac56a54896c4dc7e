//! Fairness in simulated time: the queues know none, so a test lets calls end when it likes.

use super::*;

fn share(tenant: u64, weight: u32, installation: u64) -> Share {
    Share {
        tenant,
        weight,
        installation,
    }
}

/// Calls that run, in ticks of a simulated clock.
struct World {
    queues: Queues<(u64, u64)>,
    now: u64,
    /// When a call ends, and whose it is.
    running: Vec<(u64, Share)>,
    /// Of each call of the tenant that is watched, how long it waited.
    waits: HashMap<u64, Vec<u64>>,
    granted: HashMap<u64, u64>,
}

impl World {
    fn new(total: usize) -> World {
        World {
            queues: Queues::new(total),
            now: 0,
            running: Vec::new(),
            waits: HashMap::new(),
            granted: HashMap::new(),
        }
    }

    /// A call that takes `ticks`; false when the queue is full.
    fn call(&mut self, share: Share, ticks: u64) -> bool {
        if self.queues.take(&share) {
            self.begin(share, ticks, 0);
            return true;
        }
        self.queues.wait(&share, (self.now, ticks)).is_some()
    }

    fn begin(&mut self, share: Share, ticks: u64, waited: u64) {
        self.running.push((self.now + ticks, share));
        self.waits.entry(share.tenant).or_default().push(waited);
        *self.granted.entry(share.tenant).or_default() += 1;
    }

    /// Lets time pass: ends what is due, and gives the slots on.
    fn tick(&mut self) {
        self.now += 1;
        let now = self.now;
        for (_, share) in self.running.extract_if(.., |(end, _)| *end <= now) {
            self.queues.stop(&share);
            self.queues.free += 1;
        }
        while let Some((share, (since, ticks))) = self.queues.next() {
            self.begin(share, ticks, now - since);
        }
    }

    fn longest_wait(&self, tenant: u64) -> u64 {
        self.waits[&tenant].iter().copied().max().expect("it ran")
    }
}

#[test]
fn a_tenant_with_ten_thousand_slow_calls_does_not_keep_others_waiting() {
    let mut world = World::new(16);
    let mut refused = 0;
    for n in 0..10_000 {
        // Calls of 1,000 ticks, of many installations.
        refused += u64::from(!world.call(share(1, 1, n % 100), 1000));
    }
    assert_eq!(world.running.len(), 8, "half of the slots");
    assert_eq!(refused, 10_000 - 8 - 32, "its queue is bounded");
    for at in 0..200 {
        for tenant in 2..6 {
            assert!(world.call(share(tenant, 1, 1000 + tenant), 10));
        }
        if at % 2 == 0 {
            world.call(share(1, 1, at), 1000);
        }
        for _ in 0..5 {
            world.tick();
        }
    }
    for tenant in 2..6 {
        assert_eq!(world.longest_wait(tenant), 0, "tenant {tenant}");
    }
}

#[test]
fn in_a_full_house_each_tenant_gets_its_weights_share() {
    let mut world = World::new(16);
    // Three tenants that always want more, one of them with twice the weight; each has several installations.
    for _ in 0..4000 {
        for (tenant, weight) in [(1, 1), (2, 1), (3, 2)] {
            for installation in 0..4 {
                let share = share(tenant, weight, tenant * 10 + installation);
                world.call(share, 10);
            }
        }
        world.tick();
    }
    let granted = |tenant| world.granted[&tenant] as f64;
    for (tenant, of) in [(2, 1.0), (3, 2.0)] {
        let ratio = granted(tenant) / granted(1);
        assert!((ratio - of).abs() < 0.1 * of, "tenant {tenant}: {ratio}");
    }
}

#[test]
fn a_newcomer_waits_for_one_end_at_most() {
    let mut world = World::new(4);
    for tenant in 0..50 {
        for _ in 0..4 {
            world.call(share(tenant % 5, 1, tenant), 100);
        }
        world.tick();
    }
    assert!(world.queues.waiting > 0);
    assert!(world.call(share(99, 1, 99), 1));
    while !world.waits.contains_key(&99) {
        world.tick();
    }
    assert!(world.longest_wait(99) <= 100, "{}", world.longest_wait(99));
}

#[test]
fn an_installation_gets_a_quarter_and_takes_turns_with_its_sisters() {
    let mut world = World::new(16);
    for _ in 0..30 {
        world.call(share(1, 1, 1), 10);
    }
    assert_eq!(world.running.len(), 4);
    for _ in 0..5 {
        world.call(share(1, 1, 2), 10);
    }
    assert_eq!(world.running.len(), 8, "the other one is not behind it");
}

#[test]
fn whoever_gives_up_leaves_nothing_behind() {
    let mut queues = Queues::new(1);
    let (first, second) = (share(1, 1, 1), share(2, 1, 2));
    assert!(queues.take(&first));
    let ticket = queues.wait(&second, ()).expect("room");
    queues.leave(&second, ticket);
    queues.leave(&second, ticket);
    assert_eq!((queues.waiting, queues.tenants.len()), (0, 1));
    queues.stop(&first);
    queues.free += 1;
    assert!(queues.next().is_none());
    assert!(queues.tenants.is_empty());
}

#[test]
fn no_slot_is_lost_or_given_twice() {
    // Numbers that look random and are the same each time.
    let mut seed = 1u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut world = World::new(7);
    for _ in 0..20_000 {
        let tenant = random(5);
        let share = share(tenant, 1 + random(3) as u32, tenant * 10 + random(3));
        let ticks = 1 + random(9);
        world.call(share, ticks);
        if random(2) == 0 {
            world.tick();
        }
        assert_eq!(world.running.len() + world.queues.free, 7);
        let waiting: usize = world.queues.tenants.values().map(|of| of.waiting).sum();
        assert_eq!(world.queues.waiting, waiting);
        for tenant in world.queues.tenants.values() {
            let of: usize = tenant.installations.iter().map(|one| one.running).sum();
            assert!(tenant.running == of && of <= 3);
        }
    }
}

#[tokio::test]
async fn a_slot_goes_to_whoever_waits_and_comes_back_from_whoever_went() {
    let admission = Admission::new(1);
    let one = admission.ask(share(1, 1, 1)).expect("a slot");
    let Err(Some(wait)) = admission.ask(share(2, 1, 2)) else {
        panic!("it waits");
    };
    let Err(Some(gone)) = admission.ask(share(3, 1, 3)) else {
        panic!("it waits");
    };
    assert_eq!((admission.used(), admission.waiting()), (1, 2));
    drop(gone);
    assert_eq!(admission.waiting(), 1);
    drop(one);
    let two = wait.permit(Duration::from_secs(60)).await.expect("a slot");
    let Err(Some(wait)) = admission.ask(share(2, 1, 2)) else {
        panic!("it waits");
    };
    let none = wait.permit(Duration::ZERO).await.expect_err("no slot");
    assert_eq!(none.running, 1);
    let Err(Some(granted_and_gone)) = admission.ask(share(3, 1, 3)) else {
        panic!("it waits");
    };
    drop(two);
    drop(granted_and_gone);
    assert_eq!((admission.used(), admission.waiting()), (0, 0));
}

#[test]
fn a_parked_instance_keeps_its_slot_and_counts_as_nobodys_call() {
    let admission = Admission::new(4);
    let mut one = admission.ask(share(1, 1, 1)).expect("a slot");
    assert!(admission.ask(share(1, 1, 1)).is_err(), "a quarter is one");
    one.park();
    let two = admission.ask(share(1, 1, 1)).expect("a slot");
    assert_eq!(admission.used(), 2);
    assert!(!one.resume(), "its installation has another call");
    drop(two);
    assert!(one.resume());
    drop(one);
    assert_eq!(admission.used(), 0);
}
