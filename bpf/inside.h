/* SPDX-License-Identifier: GPL-2.0-or-later */
/* On every inside interface. Nothing is changed here and nothing is stopped. */
#ifndef THROUGHWAY_INSIDE_H
#define THROUGHWAY_INSIDE_H

#include "observe.h"

SEC("tc")
int inside_ingress(struct __sk_buff *skb)
{
	struct packet p;

	if (!packet_open(&p, skb, 0))
		return PASS;
	if (p.protocol == IPPROTO_UDP)
		ike_observe(&p, TO_PEER, p.source);
	else if (p.protocol == IPPROTO_L2TP)
		control_observe(&p, TO_PEER, p.source);
	else if (p.protocol == IPPROTO_AH)
		ah_observe(&p);
	return PASS;
}

/* A held packet leaves to its host: count it as back. It is named by the address that it came to: where there are
 * several, by the one whose flow the host owns. Where the stack itself cut a held packet into fragments, the first one
 * counts, and the others have no name, because their first one was never seen outside.
 */
static __noinline int held_packet_leaves(struct packet *p)
{
	__be32 host = p->destination;
	struct mapping *mapping;
	struct flow_key key;

	for (__u32 slot = 0; slot < SLOTS_MAX && slot < p->config->slot_count; slot++) {
		p->destination = p->config->addresses[slot];
		if (!p->destination || flow_name(p, TO_INSIDE, &key))
			continue;
		mapping = bpf_map_lookup_elem(&mappings, &key);
		if (p->config->slot_count == 1 || (mapping && is_owner(&key, mapping, host))) {
			held_packet_passed(&key);
			break;
		}
	}
	p->destination = host;
	return 0;
}

SEC("tc")
int inside_egress(struct __sk_buff *skb)
{
	struct packet p;

	if (!packet_open(&p, skb, 0))
		return PASS;
	if (is_reinjected(&p) && is_ours(&p))
		held_packet_leaves(&p);
	if (p.protocol == IPPROTO_UDP)
		ike_observe(&p, TO_INSIDE, p.destination);
	else if (p.protocol == IPPROTO_L2TP)
		control_observe(&p, TO_INSIDE, p.destination);
	return PASS;
}

#endif
