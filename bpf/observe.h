/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Observing what is evidence: the first 28 bytes of every IKE message, which are never encrypted; the control
 * messages of L2TP, which assign its IDs in clear; and that a host sends AH. It goes to the daemon; the packet
 * itself goes on untouched, and nothing here can stop it.
 */
#ifndef THROUGHWAY_OBSERVE_H
#define THROUGHWAY_OBSERVE_H

#include "fragments.h"

/* Whoever sends what is observed pays for it, so a peer that floods cannot hide what the hosts say. */
static __always_inline int may_observe(const struct packet *p, __u64 now)
{
	__u32 rate = p->config->ike_per_address;
	struct budget *budget = budget_of(&ike_budgets, p->source, rate, now);

	return budget && budget_take(budget, rate, now);
}

/* Not inlined, so that the type of the record is in the object's BTF. */
static __noinline int observed_describe(struct observed *record, const struct packet *p,
		enum observed_kind kind, enum direction direction)
{
	*record = (struct observed){
		.kind = kind,
		.host = direction == TO_PEER ? p->source : p->destination,
		.peer = direction == TO_PEER ? p->destination : p->source,
		.at_ns = bpf_ktime_get_ns(),
		.protocol = p->protocol,
		.direction = direction,
	};
	return 0;
}

/* The port at the peer's end, or at the host's. */
static __always_inline __u16 port_of(const struct udphdr *udp, enum direction direction, int is_hosts)
{
	return bpf_ntohs((direction == TO_PEER) != is_hosts ? udp->dest : udp->source);
}

/* Find where the header of an IKE message is behind the IP header, or 0. */
static __always_inline __u32 ike_find(const struct packet *p, const struct udphdr *udp, int is_floated, __u16 *size)
{
	__u32 before = sizeof(*udp);
	__be32 marker;

	if (is_floated) {
		if (payload_read(p, before, &marker, sizeof(marker)) || marker)
			return 0;
		before += NON_ESP_MARKER_SIZE;
	}
	if (bpf_ntohs(udp->len) < before + IKE_HEADER_SIZE)
		return 0;
	*size = bpf_ntohs(udp->len) - before;
	return before;
}

/* Tell the daemon of an IKE message between the host (0: the router) and the peer. A message that a host
 * sends makes its peer known.
 */
static __always_inline void ike_observe(const struct packet *p, enum direction direction, __be32 host,
		const struct udphdr *udp, int is_floated)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u8 header[IKE_HEADER_SIZE];
	struct observed *record;
	__u16 size = 0;
	__u32 at;

	at = ike_find(p, udp, is_floated, &size);
	if (!at || payload_read(p, at, header, sizeof(header)) || !may_observe(p, now))
		return;
	if (direction == TO_PEER)
		peer_becomes_known(p, p->destination, host);
	record = bpf_ringbuf_reserve(&observed, sizeof(*record) + IKE_HEADER_SIZE, 0);
	if (!record)
		return;
	observed_describe(record, p, OBSERVED_IKE, direction);
	record->host = host;
	record->slot = host ? 0 : slot_of(p->config, p->source);
	record->size = size;
	record->filled = IKE_HEADER_SIZE;
	record->floated = is_floated;
	record->host_port = port_of(udp, direction, 1);
	__builtin_memcpy(record + 1, header, sizeof(header));
	bpf_ringbuf_submit(record, 0);
}

/* Tell the daemon of a control message of L2TP that begins `at` bytes behind the IP header. The first fragment has
 * enough of it.
 */
static __always_inline void control_observe(const struct packet *p, enum direction direction, __be32 host, __u32 at,
		__u16 host_port)
{
	__u32 size = p->size - p->header_size - at;
	__u64 now = bpf_ktime_get_coarse_ns();
	struct observed *record;
	__u32 filled;

	if (!packet_is_whole(p) || !may_observe(p, now))
		return;
	record = bpf_ringbuf_reserve(&observed, sizeof(*record) + CONTROL_MESSAGE_MAX, 0);
	if (!record)
		return;
	observed_describe(record, p, OBSERVED_CONTROL, direction);
	record->host = host;
	record->slot = host ? 0 : slot_of(p->config, p->source);
	record->host_port = host_port;
	record->size = size;
	filled = size < CONTROL_MESSAGE_MAX ? size : CONTROL_MESSAGE_MAX;
	/* Never so, as the message has its header; the verifier needs it. */
	barrier_var(filled);
	if (filled == 0 || filled > CONTROL_MESSAGE_MAX) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return;
	}
	record->filled = filled;
	if (packet_read(p, p->header_size + at, record + 1, filled)) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return;
	}
	bpf_ringbuf_submit(record, 0);
	if (direction == TO_PEER)
		peer_becomes_known(p, p->destination, host);
}

/* L2TPv3 over IP (RFC 3931 section 3.2.1): a control message stands behind the session ID of 0. */
static __always_inline void l2tpv3_observe(const struct packet *p, enum direction direction, __be32 host)
{
	struct l2tpv3_control control;

	if (p->fragment_offset || payload_read(p, 0, &control, sizeof(control)) || control.session)
		return;
	control_observe(p, direction, host, L2TPV3_SESSION_SIZE, 0);
}

/* L2TP over UDP: what has the bit T is a control message, in both versions. */
static __always_inline void l2tp_observe(const struct packet *p, enum direction direction, __be32 host,
		const struct udphdr *udp)
{
	__be16 flags;

	if (payload_read(p, sizeof(*udp), &flags, sizeof(flags)) || !(bpf_ntohs(flags) & L2TP_CONTROL))
		return;
	control_observe(p, direction, host, sizeof(*udp), port_of(udp, direction, 1));
}

/* Look at what goes to, or comes from, a port of the peer that VPNs use. */
static __noinline int udp_observe(const struct packet *p, enum direction direction, __be32 host)
{
	struct udphdr udp;
	__u16 port;

	if (p->fragment_offset || payload_read(p, 0, &udp, sizeof(udp)))
		return 0;
	port = port_of(&udp, direction, 0);
	if (port == PORT_IKE || port == PORT_IKE_FLOATED)
		ike_observe(p, direction, host, &udp, port == PORT_IKE_FLOATED);
	else if (port == PORT_L2TP)
		l2tp_observe(p, direction, host, &udp);
	return 0;
}

/* Tell the daemon of something that one host has with one peer, unless that was said a moment ago. */
static __noinline int report(const struct packet *p, const struct report_key *what, __u8 code)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u64 *said = bpf_map_lookup_elem(&reports, what);
	struct observed *record;

	if (said && now - *said < REPORT_AGAIN_NS)
		return 0;
	if (!may_observe(p, now))
		return 0;
	bpf_map_update_elem(&reports, what, &now, BPF_ANY);
	record = bpf_ringbuf_reserve(&observed, sizeof(*record), 0);
	if (!record)
		return 0;
	observed_describe(record, p, what->kind, TO_PEER);
	record->host = what->host;
	record->slot = what->host ? 0 : slot_of(p->config, p->source);
	record->peer = what->peer;
	record->protocol = what->protocol;
	record->discriminator = what->discriminator;
	record->code = code;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* Whether the router would forward the packet outwards, and not take it itself or send it to another network
 * inside. Where the kernel will not say, it is taken for yes.
 */
static __always_inline int leaves_outside(const struct packet *p)
{
	struct bpf_fib_lookup route = {
		.family = 2, /* AF_INET, which the headers of BPF programs do not name */
		.ipv4_src = p->source,
		.ipv4_dst = p->destination,
		.ifindex = p->skb->ifindex,
	};
	long answer = bpf_fib_lookup(p->skb, &route, sizeof(route), 0);

	if (answer == BPF_FIB_LKUP_RET_SUCCESS || answer == BPF_FIB_LKUP_RET_NO_NEIGH)
		return route.ifindex == p->config->outside_ifindex;
	return answer != BPF_FIB_LKUP_RET_NOT_FWDED;
}

/* Tell the daemon that a host sends AH to a peer. */
static __always_inline void ah_observe(const struct packet *p)
{
	struct report_key what = {
		.host = p->source,
		.peer = p->destination,
		.kind = OBSERVED_AH,
		.protocol = IPPROTO_AH,
	};

	if (!is_group(p->destination) && leaves_outside(p))
		report(p, &what, 0);
}

#endif
