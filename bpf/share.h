/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shares: how much one sender may fill of what all of them use, the table of undecided flows and the ring.
 *
 * A sender may have a quarter of what is still free. So one that floods alone gets a fifth of all (x = (1 - x) / 4), n
 * of them together n / (n + 4), and there is room for one more however many they are. Who has nothing waiting may
 * always try.
 *
 * What a sender has in the ring is known up to what was read since: its bytes are counted from one position of the ring
 * to the next, and those before the last one are forgotten when the daemon has read as far.
 *
 *            read             until           written
 *   ---------|----------------|---------------|------> positions of the ring
 *     gone     ring_before      ring_now
 *
 * Two CPUs at once may count one record twice or not at all, which the next position puts right.
 */
#ifndef THROUGHWAY_SHARE_H
#define THROUGHWAY_SHARE_H

#include "maps.h"

#define SHARE_OF_FREE 4

/* Who sends a flow, and so answers for what it fills: the peer if it comes from outside, else the host. */
static __always_inline __be32 sender_of(const struct flow_key *key)
{
	return key->direction == TO_INSIDE ? key->peer : key->host;
}

/* NULL only when the map gives nothing. */
static __always_inline struct share *share_of(const struct flow_key *key)
{
	__be32 sender = sender_of(key);
	struct share *share = bpf_map_lookup_elem(&shares, &sender);
	struct share nothing = {};

	if (share)
		return share;
	bpf_map_update_elem(&shares, &sender, &nothing, BPF_NOEXIST);
	return bpf_map_lookup_elem(&shares, &sender);
}

static __always_inline __u32 *undecided_count(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&undecided, &only);
}

/* Whether the sender may have one more undecided flow. */
static __noinline int share_has_flow(const struct flow_key *key, __u32 most)
{
	struct share *share = share_of(key);
	__u32 *all = undecided_count();
	__u32 left;

	if (!share || !all)
		return 0;
	left = most > *all ? most - *all : 0;
	return !share->flows || (share->flows + 1) * SHARE_OF_FREE <= left;
}

/* Count a flow that began to wait. */
static __noinline int share_add_flow(const struct flow_key *key)
{
	struct share *share = share_of(key);
	__u32 *all = undecided_count();

	if (share)
		__sync_fetch_and_add(&share->flows, 1);
	if (all)
		__sync_fetch_and_add(all, 1);
	return 0;
}

/* Count one less. Only the daemon has flows forgotten, one after another, so nothing is taken below 0. */
static __noinline int share_take_flow(const struct flow_key *key)
{
	struct share *share = share_of(key);
	__u32 *all = undecided_count();

	if (share && share->flows)
		__sync_fetch_and_sub(&share->flows, 1);
	if (all && *all)
		__sync_fetch_and_sub(all, 1);
	return 0;
}

/* Count so many bytes of the ring for the sender, if it may have them. */
static __noinline int share_take_ring(const struct flow_key *key, __u32 size)
{
	__u64 written = bpf_ringbuf_query(&punts, BPF_RB_PROD_POS);
	__u64 read = bpf_ringbuf_query(&punts, BPF_RB_CONS_POS);
	__u64 room = bpf_ringbuf_query(&punts, BPF_RB_RING_SIZE);
	struct share *share = share_of(key);
	__u64 unread = written > read ? written - read : 0;
	__u64 own;

	if (!share)
		return 0;
	if (read >= share->ring_until) {
		share->ring_before = unread ? share->ring_now : 0;
		share->ring_now = 0;
		share->ring_until = written;
	}
	own = (__u64)share->ring_before + share->ring_now;
	room = room > unread ? room - unread : 0;
	if (own && (own + size) * SHARE_OF_FREE > room)
		return 0;
	share->ring_now += size;
	return 1;
}

#endif
