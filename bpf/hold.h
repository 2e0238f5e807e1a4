/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Holding: the packets of an undecided flow go to the daemon in order, and come back before those that
 * follow.
 *
 *   CPU a: the packet of an unknown flow            CPU b: a held packet comes back
 *   -----------------------------------             -------------------------------
 *   reserve room in the ring                        (on its way out, as late as can be)
 *   lock                                            lock
 *     WAITING or DRAINING: sequence = punted++        reinjected++
 *     DONE: somebody opened the flow meanwhile        DRAINING and all are back: ACTIVE, DONE
 *   unlock                                          unlock
 *   submit, or discard and go the direct way
 *
 * The state is tested and the packet numbered under one lock, so no packet can be held after the flow was
 * opened, and none that comes later can overtake one that is still on its way. Helpers may not be called
 * under the lock: room in the ring is reserved before it, for nothing if it turns out so.
 */
#ifndef THROUGHWAY_HOLD_H
#define THROUGHWAY_HOLD_H

#include "rewrite.h"
#include "share.h"

/* How many more packets may be held once the flow drains. Without this bound a fast flow would keep the
 * daemon behind for ever: it puts packets back slower than a link can bring them.
 */
#define DRAIN_MORE_MAX HELD_PER_FLOW_MAX

/* hold() returns a TC verdict, or this: the flow was opened meanwhile, look its mapping up and go on. */
#define HOLD_OPEN (-2)

enum place {
	PLACE_TAKEN,
	PLACE_OPEN,    /* the flow is decided: no reason to wait */
	PLACE_REFUSED,
	PLACE_NONE,    /* as many as may be held are held, or there is no room in the ring */
};

/* Not inlined, so that the type of the record is in the object's BTF. */
static __noinline int punt_describe(struct punt *record, const struct packet *p,
		const struct flow_key *key, enum punt_kind kind)
{
	record->kind = kind;
	record->sequence = 0;
	record->link_header_size = p->config->link_header_size;
	record->at_ns = bpf_ktime_get_ns();
	record->key = *key;
	record->fragment = (struct fragment_key){};
	record->slot = kind == PUNT_COPY ? slot_of(p->config, p->source) : 0;
	return 0;
}

/* Copy the first `size` bytes of the frame, link header included, into a record of `room` bytes. */
static __always_inline long punt_fill(struct punt *record, const struct packet *p, __u32 size,
		const __u32 room)
{
	/* Callers have compared the size already, so clang would drop this test; the verifier needs it. */
	barrier_var(size);
	if (size == 0 || size > room)
		return -1;
	record->size = size;
	return bpf_skb_load_bytes(p->skb, 0, record + 1, size);
}

/* What a frame of so many bytes takes in the ring, with the header that the kernel puts before each record. */
static __always_inline __u32 punt_room(__u32 size)
{
	return sizeof(struct punt) + (size <= FRAME_SMALL ? FRAME_SMALL : FRAME_LARGE) + BPF_RINGBUF_HDR_SZ;
}

/* Put the whole frame into the ring, but not to be read yet. NULL when there is no room; `why` says what is full. */
static __always_inline struct punt *punt_reserve(const struct packet *p, const struct flow_key *key,
		enum punt_kind kind, enum reason *why)
{
	__u32 size = p->skb->len;
	struct punt *record;
	long failed;

	*why = REASON_SHARE_FULL;
	if (!share_take_ring(key, punt_room(size)))
		return NULL;
	*why = REASON_RING_FULL;
	if (size <= FRAME_SMALL) {
		record = bpf_ringbuf_reserve(&punts, sizeof(*record) + FRAME_SMALL, 0);
		if (!record)
			return NULL;
		failed = punt_fill(record, p, size, FRAME_SMALL);
	} else {
		record = bpf_ringbuf_reserve(&punts, sizeof(*record) + FRAME_LARGE, 0);
		if (!record)
			return NULL;
		failed = punt_fill(record, p, size, FRAME_LARGE);
	}
	if (failed) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return NULL;
	}
	punt_describe(record, p, key, kind);
	return record;
}

/* Hand the daemon a copy of a packet that goes on; as much as a usual frame has. */
static __always_inline void punt_copy(const struct packet *p, const struct flow_key *key)
{
	__u32 size = p->skb->len < FRAME_SMALL ? p->skb->len : FRAME_SMALL;
	struct punt *record;

	if (!share_take_ring(key, punt_room(size)))
		return;
	record = bpf_ringbuf_reserve(&punts, sizeof(*record) + FRAME_SMALL, 0);
	if (!record)
		return;
	if (punt_fill(record, p, size, FRAME_SMALL)) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return;
	}
	punt_describe(record, p, key, PUNT_COPY);
	bpf_ringbuf_submit(record, 0);
}

/* From now on the peer may make us ask for unknown flows. `host` is 0 for the router. */
static __always_inline void peer_becomes_known(const struct packet *p, __be32 peer, __be32 host)
{
	struct budget *known = budget_of(&peers, peer, p->config->punts_per_peer, bpf_ktime_get_coarse_ns());

	if (known && host && !known->by_host)
		known->by_host = 1;
}

/* Whether whoever sends this flow may ask for one more now: the peer if it comes from outside, else the
 * host. So a flood of new flows spends the budget of its sender and of nobody else.
 */
static __always_inline int may_ask(const struct packet *p, const struct flow_key *key)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct budget *budget;
	__u32 rate;

	if (key->direction == TO_INSIDE) {
		rate = p->config->punts_per_peer;
		budget = bpf_map_lookup_elem(&peers, &key->peer);
	} else {
		rate = p->config->punts_per_host;
		budget = budget_of(&hosts, key->host, rate, now);
	}
	return budget && budget_take(budget, rate, now);
}

/* Begin to wait for a decision; NULL when there is no room for one more flow. */
static __always_inline struct pending *pending_begin(const struct flow_key *key)
{
	struct pending fresh = { .state = PENDING_WAITING, .since_ns = bpf_ktime_get_coarse_ns() };

	/* Another CPU may have been first: its entry is as good, and only one may be used. */
	if (!bpf_map_update_elem(&pending, key, &fresh, BPF_NOEXIST))
		share_add_flow(key);
	return bpf_map_lookup_elem(&pending, key);
}

/* How many packets are out of our hands and not back. */
static __always_inline __u32 held_of(const struct pending *entry)
{
	return entry->punted - entry->reinjected;
}

/* Forget what was, and wait for a decision. Under the lock. */
static __always_inline void pending_ask_again(struct pending *entry, __u64 now)
{
	entry->state = PENDING_WAITING;
	entry->punted = 0;
	entry->reinjected = 0;
	entry->dropped = 0;
	entry->drain_cap = 0;
	entry->since_ns = now;
	entry->until_ns = 0;
}

/* Take the next place among the held packets, or say why not. `is_over` says that before this the entry
 * was seen refused and expired, or done with no mapping to go by: it begins anew, unless another CPU
 * already made it.
 */
static __always_inline enum place place_take(struct pending *entry, int is_over, struct punt *record)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	enum place place = PLACE_TAKEN;

	bpf_spin_lock(&entry->lock);
	if (is_over && entry->state == PENDING_DONE)
		pending_ask_again(entry, now);
	if (is_over && entry->state == PENDING_REFUSED && now >= entry->until_ns)
		pending_ask_again(entry, now);
	if (entry->state == PENDING_DONE) {
		place = PLACE_OPEN;
	} else if (entry->state == PENDING_REFUSED) {
		place = PLACE_REFUSED;
	} else if (!record || held_of(entry) >= HELD_PER_FLOW_MAX ||
		   (entry->state == PENDING_DRAINING && entry->punted >= entry->drain_cap)) {
		entry->dropped++;
		place = PLACE_NONE;
	} else {
		record->sequence = entry->punted++;
	}
	bpf_spin_unlock(&entry->lock);
	return place;
}

/* Put the packet among the held ones of this entry. */
static __always_inline int hold_in(const struct packet *p, const struct flow_key *key,
		struct pending *entry, int is_over)
{
	/* Seen without the lock: it only saves a flood the copying, place_take() decides. */
	int is_full = !is_over && held_of(entry) >= HELD_PER_FLOW_MAX;
	enum reason why = REASON_HOLD_FULL;
	struct punt *record = is_full ? NULL : punt_reserve(p, key, PUNT_HELD, &why);

	if (record)
		why = REASON_HOLD_FULL;

	switch (place_take(entry, is_over, record)) {
	case PLACE_TAKEN:
		if (record) /* always so, which the verifier cannot see */
			bpf_ringbuf_submit(record, 0);
		return take(REASON_PUNTED);
	case PLACE_OPEN:
		if (record)
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return HOLD_OPEN;
	case PLACE_REFUSED:
		if (record)
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return drop(REASON_REFUSED);
	default:
		if (record)
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return drop(why);
	}
}

/* Hold a packet whose flow has no active mapping. `is_mapped` says whether it has one at all.
 *
 * Order matters: a verdict writes the mapping before it makes the entry DONE. So DONE that is seen here,
 * and no mapping that is found after that, can only mean that the mapping was removed since.
 */
static __always_inline int hold(const struct packet *p, const struct flow_key *key)
{
	struct pending *entry = bpf_map_lookup_elem(&pending, key);
	int is_over = 0;
	struct mapping *mapping;
	enum pending_state state;

	if (p->skb->len > FRAME_LARGE)
		return drop(REASON_TOO_LARGE_TO_HOLD);
	if (!entry) {
		if (!share_has_flow(key, p->config->pending_max))
			return drop(REASON_SHARE_FULL);
		if (!may_ask(p, key))
			return drop(REASON_PUNT_RATE);
		entry = pending_begin(key);
		return entry ? hold_in(p, key, entry, 0) : drop(REASON_PENDING_FULL);
	}
	state = *(volatile enum pending_state *)&entry->state;
	if (state == PENDING_REFUSED) {
		if (bpf_ktime_get_coarse_ns() < entry->until_ns)
			return drop(REASON_REFUSED);
		is_over = 1;
	} else if (state == PENDING_DONE) {
		mapping = bpf_map_lookup_elem(&mappings, key);
		if (mapping && (mapping->flags & MAPPING_ACTIVE))
			return HOLD_OPEN;
		is_over = 1;
	}
	if (is_over && !may_ask(p, key))
		return drop(REASON_PUNT_RATE);
	return hold_in(p, key, entry, is_over);
}

/* A held packet is back and has passed. The last one opens the flow.
 *
 * This is done where the packet leaves us, not where it comes back in: until then packets of the direct
 * way on another CPU could overtake it.
 */
static __always_inline void held_packet_passed(const struct flow_key *key)
{
	struct pending *entry = bpf_map_lookup_elem(&pending, key);
	struct mapping *mapping = bpf_map_lookup_elem(&mappings, key);

	count(REASON_REINJECTED);
	if (!entry)
		return;
	bpf_spin_lock(&entry->lock);
	if (entry->reinjected < entry->punted)
		entry->reinjected++;
	if (entry->state == PENDING_DRAINING && entry->reinjected == entry->punted) {
		if (mapping)
			mapping->flags |= MAPPING_ACTIVE;
		entry->state = PENDING_DONE;
	}
	bpf_spin_unlock(&entry->lock);
}

#endif
