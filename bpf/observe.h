/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Observing IKE: the first 28 bytes of every message, which are never encrypted, go to the daemon. The
 * packet itself goes on untouched; nothing here can stop it.
 */
#ifndef THROUGHWAY_OBSERVE_H
#define THROUGHWAY_OBSERVE_H

#include "hold.h"

/* Not inlined, so that the type of the record is in the object's BTF. */
static __noinline int ike_submit(const struct ike_observed *record)
{
	bpf_ringbuf_output(&observed, (void *)record, sizeof(*record), 0);
	return 0;
}

/* Read the head of an IKE message that goes to or comes from this port of the peer. */
static __always_inline int ike_read(const struct packet *p, enum direction direction,
		struct ike_observed *record)
{
	__u32 before = sizeof(struct udphdr);
	struct udphdr udp;
	__be32 marker;
	__u16 port, size;

	if (p->fragment_offset || payload_read(p, 0, &udp, sizeof(udp)))
		return 0;
	port = bpf_ntohs(direction == TO_PEER ? udp.dest : udp.source);
	if (port != PORT_IKE && port != PORT_IKE_FLOATED)
		return 0;
	if (port == PORT_IKE_FLOATED) {
		if (payload_read(p, before, &marker, sizeof(marker)) || marker)
			return 0;
		before += NON_ESP_MARKER_SIZE;
	}
	size = bpf_ntohs(udp.len);
	if (size < before + IKE_HEADER_SIZE || payload_read(p, before, record->header, IKE_HEADER_SIZE))
		return 0;
	record->floated = port == PORT_IKE_FLOATED;
	record->size = size - before;
	return 1;
}

/* Tell the daemon of an IKE message between the host (0: the router) and the peer. A message that a host
 * sends makes its peer known.
 *
 * Whoever sends the message pays for it, so a peer that floods cannot hide what the hosts say.
 */
static __always_inline void ike_observe(const struct packet *p, enum direction direction, __be32 host)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct ike_observed record = {
		.host = host,
		.peer = direction == TO_PEER ? p->destination : p->source,
		.direction = direction,
		.at_ns = bpf_ktime_get_ns(),
	};
	struct budget *budget;

	if (p->protocol != IPPROTO_UDP || !ike_read(p, direction, &record))
		return;
	budget = budget_of(&ike_budgets, p->source, p->config->ike_per_address, now);
	if (!budget || !budget_take(budget, p->config->ike_per_address, now))
		return;
	if (direction == TO_PEER)
		peer_becomes_known(p, p->destination);
	ike_submit(&record);
}

#endif
