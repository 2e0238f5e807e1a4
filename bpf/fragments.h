/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fragments: the first one says whose they are, and they come in any order.
 *
 *   first:  remembered; was it awaited, the daemon is told, which puts back what it holds
 *   later:  goes the way of its flow if the first one is known, else it is handed to the daemon
 *
 * What is put back comes as if for the first time: it has no number among the held packets of its flow, and
 * may well become one. Both sides of the race between a first fragment and a later one on another CPU begin
 * with an insertion that fails where there is an entry, so one of the two always sees the other. The daemon
 * reads the table too before it lets a fragment wait, since the news may be in the ring before the fragment.
 */
#ifndef THROUGHWAY_FRAGMENTS_H
#define THROUGHWAY_FRAGMENTS_H

#include "hold.h"

static __always_inline __u32 payload_size(const struct packet *p)
{
	return p->size - p->header_size;
}

/* Tell the daemon that the fragments that it holds under this name may come back. If there is no room for it, it
 * finds out when it looks at what has waited for too long.
 */
static __always_inline void first_fragment_tell(const struct packet *p, const struct fragment *first,
		const struct fragment_key *name)
{
	struct punt *record = bpf_ringbuf_reserve(&punts, sizeof(*record), 0);

	if (!record)
		return;
	punt_describe(record, p, &first->key, PUNT_FIRST_FRAGMENT);
	record->size = 0;
	record->fragment = *name;
	bpf_ringbuf_submit(record, 0);
}

/* Remember a first fragment that came by itself. An entry of the same name is of another packet that had the
 * same IP ID, or is one that was awaited.
 */
static __noinline int first_fragment_came(const struct packet *p, const struct fragment *first,
		const struct fragment_key *name)
{
	struct fragment *before;
	int was_awaited;

	if (!bpf_map_update_elem(&fragments, name, first, BPF_NOEXIST))
		return 0;
	before = bpf_map_lookup_elem(&fragments, name);
	was_awaited = before && before->state == FRAGMENT_AWAITED;
	bpf_map_update_elem(&fragments, name, first, BPF_ANY);
	if (was_awaited)
		first_fragment_tell(p, first, name);
	return 0;
}

/* Remember a first fragment that was held and is back. Those behind it come back now, whatever time it is; what
 * is known of how many there are stays.
 */
static __noinline int first_fragment_came_back(const struct fragment *first, const struct fragment_key *name)
{
	__u64 soon = bpf_ktime_get_coarse_ns() + FRAGMENT_REUSED_NS;
	struct fragment *before = bpf_map_lookup_elem(&fragments, name);

	if (!before || before->state == FRAGMENT_AWAITED)
		return bpf_map_update_elem(&fragments, name, first, BPF_ANY);
	if (before->until_ns < soon)
		before->until_ns = soon;
	return 0;
}

static __always_inline void fragment_remember(const struct packet *p, const struct flow_key *key,
		enum fragment_state state, int was_held)
{
	struct fragment first = {
		.key = *key,
		.until_ns = bpf_ktime_get_coarse_ns() + FRAGMENT_FRESH_NS,
		.seen = payload_size(p),
		.state = state,
	};
	struct fragment_key name;

	fragment_name(p, key->direction, &name);
	if (was_held)
		first_fragment_came_back(&first, &name);
	else
		first_fragment_came(p, &first, &name);
}

/* Count a later fragment. Once all of the packet has come, its IP ID may soon be that of another. */
static __noinline int later_fragment_came(const struct packet *p, enum direction direction)
{
	struct fragment_key name;
	struct fragment *first;
	__u32 seen;

	fragment_name(p, direction, &name);
	first = bpf_map_lookup_elem(&fragments, &name);
	if (!first)
		return 0;
	if (!p->more_fragments)
		first->total = p->fragment_offset * 8 + payload_size(p);
	seen = __sync_fetch_and_add(&first->seen, payload_size(p)) + payload_size(p);
	if (first->total && seen >= first->total)
		first->until_ns = bpf_ktime_get_coarse_ns() + FRAGMENT_REUSED_NS;
	return 0;
}

/* Do for a packet of this flow what has to be done if it is a fragment. Most are none. */
static __always_inline void fragment_came(const struct packet *p, const struct flow_key *key,
		enum fragment_state state, int was_held)
{
	if (!p->more_fragments && !p->fragment_offset)
		return;
	if (!p->fragment_offset)
		fragment_remember(p, key, state, was_held);
	else if (!was_held)
		later_fragment_came(p, key->direction);
}

/* Await the first fragment of this name. Not 0 when it has come meanwhile. */
static __always_inline int fragment_await(const struct fragment_key *name)
{
	struct fragment awaited = { .state = FRAGMENT_AWAITED };
	struct fragment *before;

	if (!bpf_map_update_elem(&fragments, name, &awaited, BPF_NOEXIST))
		return 0;
	before = bpf_map_lookup_elem(&fragments, name);
	if (before && before->state == FRAGMENT_AWAITED)
		return 0;
	if (before && bpf_ktime_get_coarse_ns() <= before->until_ns)
		return 1;
	bpf_map_update_elem(&fragments, name, &awaited, BPF_ANY);
	return 0;
}

/* Hand a later fragment to the daemon until its first one comes. Its sender pays for it from a budget of its own,
 * so that this cannot keep new tunnels out. HOLD_OPEN when the first one has come meanwhile: name it again.
 */
static __noinline int fragment_hold(const struct packet *p, const struct flow_key *key)
{
	__u32 rate = p->config->fragments_per_address;
	__u64 now = bpf_ktime_get_coarse_ns();
	struct budget *budget;
	struct fragment_key name;
	struct punt *record;
	enum reason why;

	if (p->skb->len > FRAME_LARGE)
		return drop(REASON_TOO_LARGE_TO_HOLD);
	budget = budget_of(&fragment_budgets, p->source, rate, now);
	if (!budget || !budget_take(budget, rate, now))
		return drop(REASON_FRAGMENT_BEFORE_FIRST);
	record = punt_reserve(p, key, PUNT_FRAGMENT, &why);
	if (!record)
		return drop(why);
	fragment_name(p, key->direction, &name);
	record->fragment = name;
	if (fragment_await(&name)) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return HOLD_OPEN;
	}
	bpf_ringbuf_submit(record, 0);
	return take(REASON_FRAGMENT_HELD);
}

#endif
