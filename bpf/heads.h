/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Heads: of the first packets of each TCP and UDP flow, those that may be a VPN's are copied to the daemon, which tells
 * what they are. On the inside interfaces, where a device's own address and port are still there.
 *
 * What may be a VPN's is said by filters that the daemon makes of the catalogue. They may say yes too often and never
 * no to a packet that detection would have begun with; from the first yes on, all packets of the flow are copied. A
 * flow is looked at for HEAD_PACKETS_MAX packets each way, and then costs one look-up a packet and nothing else. A TCP
 * connection is looked at from its SYN on or not at all, and a filter is asked about the beginning of a stream alone.
 *
 * Whoever sends a copied packet pays for it, so that a flood hides nothing but itself. Nothing here can stop a packet.
 */
#ifndef THROUGHWAY_HEADS_H
#define THROUGHWAY_HEADS_H

#include <linux/tcp.h>

#include "head_filters.h"
#include "observe.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct head_rules);
} head_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct head_key);
	__type(value, struct head_flow);
} head_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct head_tls_key);
	__type(value, __be16);
} head_tls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __be32);
	__type(value, struct budget);
} head_budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HEAD_COUNT_MAX);
	__type(key, __u32);
	__type(value, __u64);
} head_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} heads_seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct head_copy);
} head_copies SEC(".maps");

static __always_inline void head_count(enum head_count what)
{
	__u32 index = what;
	__u64 *counter = bpf_map_lookup_elem(&head_counts, &index);

	if (counter)
		(*counter)++;
}

/* TLS's first record, a handshake (RFC 8446 section 5.1). */
static __always_inline int begins_tls(const struct head_copy *copy)
{
	const __u8 *data = copy->payload;

	return copy->head.filled >= 3 && data[0] == 22 && data[1] == 3 && data[2] <= 3;
}

/* Remember that the end which began speaks TLS to a port, or recall it for DTLS to the same port. */
static __always_inline void tls_note_or_recall(struct head_copy *copy)
{
	struct head *head = &copy->head;
	int by_host = head->initiator == TO_PEER;
	struct head_tls_key key = {
		.host = head->key.host,
		.peer = head->key.peer,
		.responder_port = by_host ? head->key.peer_port : head->key.host_port,
		.initiator = head->initiator,
	};
	__be16 port = by_host ? head->key.host_port : head->key.peer_port;
	__be16 *beside;

	if (head->key.protocol == IPPROTO_TCP) {
		if (!head->stream_at && begins_tls(copy))
			bpf_map_update_elem(&head_tls, &key, &port, BPF_ANY);
		return;
	}
	beside = bpf_map_lookup_elem(&head_tls, &key);
	head->tls_port = beside ? *beside : 0;
}

static __always_inline int may_copy(const struct packet *p, const struct head_rules *rules, enum direction direction)
{
	__u32 rate = direction == TO_PEER ? rules->per_host : rules->per_peer;
	__u64 now = bpf_ktime_get_coarse_ns();
	struct budget *budget = budget_of(&head_budgets, p->source, rate, now);

	return budget && budget_take(budget, rate, now);
}

/* Whether the packet crosses the gateway: what devices say to the router, or to each other, is not ours to judge. */
static __always_inline int head_crosses(const struct packet *p, enum direction direction)
{
	if (direction == TO_INSIDE)
		return p->skb->ingress_ifindex == p->config->outside_ifindex;
	return !is_group(p->destination) && leaves_outside(p);
}

/* Copy the payload to the ring if a filter wants it, or wanted one before it. */
static __always_inline void head_judge(const struct packet *p, const struct head_rules *rules, struct head_flow *flow,
		struct head_copy *copy)
{
	struct head *head = &copy->head;
	__u32 size;

	if (flow->state == HEAD_WATCHED && !filters_fit(rules, copy)) {
		if (head->key.protocol == IPPROTO_TCP)
			tls_note_or_recall(copy);
		return;
	}
	if (flow->state == HEAD_WATCHED && !head_crosses(p, head->direction)) {
		flow->begins_at[0] = head->at_ns / NS_PER_S;
		flow->state = HEAD_ASIDE;
		return;
	}
	if (!may_copy(p, rules, head->direction)) {
		head_count(HEAD_OVER_BUDGET);
		return;
	}
	tls_note_or_recall(copy);
	head->is_first = flow->state == HEAD_WATCHED;
	head->is_last = flow->seen[0] >= HEAD_PACKETS_MAX && flow->seen[1] >= HEAD_PACKETS_MAX;
	size = head->filled;
	barrier_var(size);
	if (size > HEAD_SIZE_MAX)
		return;
	if (bpf_ringbuf_output(&heads_seen, copy, sizeof(*head) + size, 0)) {
		head_count(HEAD_RING_FULL);
		return;
	}
	head_count(HEAD_COPIED);
	if (flow->state == HEAD_WATCHED)
		flow->state = HEAD_BEGUN;
}

/* Read from a packet also where its payload is in pages of its own, to which the offset has to be counted from the
 * frame's beginning. Such a frame has nothing behind the packet: what is padded is short, and in one piece.
 */
static __always_inline long paged_read(const struct packet *p, __u32 offset, void *to, __u32 size)
{
	if (!packet_read(p, offset, to, size))
		return 0;
	return p->skb->len < p->size ? -1 : bpf_skb_load_bytes(p->skb, p->skb->len - p->size + offset, to, size);
}

/* Read the payload that begins `at` bytes behind the IP header. False if nothing of it is here. */
static __always_inline int head_read(const struct packet *p, const struct head_rules *rules, struct head_copy *copy,
		__u32 at)
{
	__u32 here = p->size - p->header_size - at;
	__u32 filled = copy->head.size < here ? copy->head.size : here;

	if (filled > rules->size_max)
		filled = rules->size_max;
	barrier_var(filled);
	if (filled == 0 || filled > HEAD_SIZE_MAX || paged_read(p, p->header_size + at, copy->payload, filled))
		return 0;
	copy->head.filled = filled;
	return 1;
}

/* Count one packet with a payload, which begins `at` bytes behind the IP header, and look at it. */
static __noinline int head_take(const struct packet *p, const struct head_rules *rules, struct head_flow *flow,
		const struct head *front, __u32 at)
{
	__u32 direction = front->direction & 1, zero = 0;
	struct head_copy *copy;

	if (flow->seen[direction] >= HEAD_PACKETS_MAX) {
		if (flow->seen[!direction] >= HEAD_PACKETS_MAX)
			flow->state = HEAD_DONE;
		return 0;
	}
	flow->seen[direction]++;
	copy = bpf_map_lookup_elem(&head_copies, &zero);
	if (!copy)
		return 0;
	copy->head = *front;
	copy->head.at_ns = bpf_ktime_get_coarse_ns();
	copy->head.initiator = flow->initiator;
	if (head_read(p, rules, copy, at))
		head_judge(p, rules, flow, copy);
	return 0;
}

/* Begin to watch a flow, or begin anew. */
static __always_inline struct head_flow *head_begin(const struct head *front, const struct head_rules *rules,
		__u32 begins_at)
{
	int by_host = front->direction == TO_PEER;
	struct head_flow fresh = {
		.begins_at = { begins_at, begins_at },
		.generation = rules->generation,
		.initiator = front->direction,
		.has_begun = { [TO_INSIDE] = !by_host, [TO_PEER] = by_host },
	};

	bpf_map_update_elem(&head_flows, &front->key, &fresh, BPF_ANY);
	return bpf_map_lookup_elem(&head_flows, &front->key);
}

/* Whether packets of a flow of UDP are to be passed over; where there is none, or not any more, they are not. */
static __always_inline int is_over(const struct head_flow *flow, const struct head_rules *rules)
{
	if (!flow || flow->generation != rules->generation)
		return 0;
	if (flow->state != HEAD_ASIDE)
		return flow->state == HEAD_DONE;
	return (__u32)(bpf_ktime_get_coarse_ns() / NS_PER_S) - flow->begins_at[0] < HEAD_ASIDE_S;
}

static __always_inline void head_of_udp(const struct packet *p, const struct head_rules *rules, struct head *front)
{
	__u32 at = sizeof(struct udphdr);
	struct head_flow *flow;
	struct udphdr udp;

	if (payload_read(p, 0, &udp, sizeof(udp)))
		return;
	front->key.host_port = front->direction == TO_PEER ? udp.source : udp.dest;
	front->key.peer_port = front->direction == TO_PEER ? udp.dest : udp.source;
	flow = bpf_map_lookup_elem(&head_flows, &front->key);
	if (is_over(flow, rules))
		return;
	if (bpf_ntohs(udp.len) <= at || p->size <= p->header_size + at)
		return;
	front->size = bpf_ntohs(udp.len) - at;
	if (!flow || flow->generation != rules->generation || flow->state == HEAD_ASIDE)
		flow = head_begin(front, rules, 0);
	if (flow)
		head_take(p, rules, flow, front, at);
}

static __always_inline void head_of_tcp(const struct packet *p, const struct head_rules *rules, struct head *front)
{
	__u32 direction = front->direction & 1, at, sequence;
	struct head_flow *flow;
	struct tcphdr tcp;

	if (payload_read(p, 0, &tcp, sizeof(tcp)))
		return;
	front->key.host_port = direction == TO_PEER ? tcp.source : tcp.dest;
	front->key.peer_port = direction == TO_PEER ? tcp.dest : tcp.source;
	sequence = bpf_ntohl(tcp.seq);
	if (tcp.syn && !tcp.ack) {
		head_begin(front, rules, sequence + 1);
		return;
	}
	flow = bpf_map_lookup_elem(&head_flows, &front->key);
	if (!flow || flow->state >= HEAD_DONE || flow->generation != rules->generation)
		return;
	if (tcp.syn) {
		flow->begins_at[direction] = sequence + 1;
		flow->has_begun[direction] = 1;
		return;
	}
	at = tcp.doff * 4;
	if (at < sizeof(tcp) || p->size <= p->header_size + at || !flow->has_begun[direction])
		return;
	front->size = p->size - p->header_size - at;
	front->stream_at = sequence - flow->begins_at[direction];
	if (front->stream_at < (flow->state == HEAD_WATCHED ? 1 : HEAD_STREAM_MAX))
		head_take(p, rules, flow, front, at);
}

/* Look at a packet of TCP or UDP, which is not told and not changed. */
static __noinline int heads_look(const struct packet *p, enum direction direction)
{
	struct head front = {
		.key.host = direction == TO_PEER ? p->source : p->destination,
		.key.peer = direction == TO_PEER ? p->destination : p->source,
		.key.protocol = p->protocol,
		.direction = direction,
	};
	__u32 zero = 0;
	const struct head_rules *rules = bpf_map_lookup_elem(&head_rules, &zero);

	if (!rules || !rules->count || p->fragment_offset)
		return 0;
	if (p->protocol == IPPROTO_UDP)
		head_of_udp(p, rules, &front);
	else
		head_of_tcp(p, rules, &front);
	return 0;
}

#endif
