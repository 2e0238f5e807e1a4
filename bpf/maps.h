/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The maps, and the few functions that know how they are kept.
 *
 * Sizes are those of src/throughway/core/limits.py; the daemon may set others when it loads the object.
 * What grows with the tunnels is allocated when needed (BPF_F_NO_PREALLOC); what strangers can make
 * grow is an LRU or bounded by a budget.
 */
#ifndef THROUGHWAY_MAPS_H
#define THROUGHWAY_MAPS_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "keys.h"
#include "reasons.h"

#define NS_PER_S 1000000000ull

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct flow_key);
	__type(value, struct mapping);
} mappings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow_key);
	__type(value, struct fan_out);
} fan_outs SEC(".maps");

/* Where a list is put together or copied: it is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fan_out);
} fan_out_scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct flow_key);
	__type(value, struct trace);
} traces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow_key);
	__type(value, struct pending);
} pending SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct sender_key);
	__type(value, __be32);
} senders SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} fragments SEC(".maps");

/* Peers with which hosts keep a port, and which. Written by the daemon, which keeps it in step with the packet filter. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, __u32);
} kept_ports SEC(".maps");

/* Peers that some host, or the router, has spoken to. Nobody else can make us ask the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __be32);
	__type(value, struct budget);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __be32);
	__type(value, struct budget);
} hosts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __be32);
	__type(value, struct budget);
} ike_budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __be32);
	__type(value, struct budget);
} fragment_budgets SEC(".maps");

/* What each sender fills of what all of them use, by its address. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __be32);
	__type(value, struct share);
} shares SEC(".maps");

/* How many entries `pending` has. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} undecided SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct report_key);
	__type(value, __u64);
} reports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_MAX);
	__type(key, __u32);
	__type(value, __u64);
} reasons SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} punts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 << 10);
} observed SEC(".maps");

/* Let the packet go on. Other programs and filters on the same hook get their turn after us; TC_ACT_OK
 * would end the chain.
 */
#define PASS TC_ACT_UNSPEC

/* Count one packet under a reason. */
static __noinline int count(enum reason reason)
{
	__u32 index = reason;
	__u64 *counter = bpf_map_lookup_elem(&reasons, &index);

	if (counter)
		(*counter)++;
	return 0;
}

/* Count the packet and stop it. Its sender is told that it was dropped. */
static __always_inline int drop(enum reason reason)
{
	count(reason);
	return TC_ACT_SHOT;
}

/* Count the packet and stop it, since the daemon has it. Its sender is told that it was sent: where the kernel cuts
 * a packet into fragments, it gives up the others once one was dropped. No interface has the number 0, so the
 * kernel frees what is redirected there. TC_ACT_STOLEN would say the same, but a tcx program may not return it.
 */
static __always_inline int take(enum reason reason)
{
	count(reason);
	return bpf_redirect(0, 0);
}

/* Take one token of the budget, which holds `rate` of them at most and gains `rate` a second.
 *
 * The time that made no whole token yet is kept in refilled_ns, so slow buckets fill too. No lock is
 * taken: two CPUs at once may take one token twice, which a rate can bear.
 */
static __always_inline int budget_take(struct budget *budget, __u32 rate, __u64 now)
{
	__u64 passed = now > budget->refilled_ns ? now - budget->refilled_ns : 0;
	__u64 gained;

	if (passed >= NS_PER_S) {
		budget->tokens = rate;
		budget->refilled_ns = now;
	} else {
		gained = passed * rate / NS_PER_S;
		if (gained) {
			budget->refilled_ns += gained * NS_PER_S / rate;
			gained += budget->tokens;
			budget->tokens = gained < rate ? gained : rate;
		}
	}
	if (!budget->tokens)
		return 0;
	budget->tokens--;
	return 1;
}

/* The budget of an address, begun full if it has none yet. NULL only when the map gives nothing. */
static __always_inline struct budget *budget_of(void *map, __be32 address, __u32 rate, __u64 now)
{
	struct budget full = { .tokens = rate, .refilled_ns = now };
	struct budget *budget = bpf_map_lookup_elem(map, &address);

	if (budget)
		return budget;
	bpf_map_update_elem(map, &address, &full, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, &address);
}

#endif
