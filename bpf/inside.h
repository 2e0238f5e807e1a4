/* SPDX-License-Identifier: GPL-2.0-or-later */
/* On every inside interface. Nothing is stopped here, and nothing changed but what takes the short path. */
#ifndef THROUGHWAY_INSIDE_H
#define THROUGHWAY_INSIDE_H

#include "heads.h"
#include "short_path.h"

SEC("tc")
int inside_ingress(struct __sk_buff *skb)
{
	struct packet p;

	if (!packet_open(&p, skb, 0))
		return PASS;
	if (p.protocol == IPPROTO_TCP || p.protocol == IPPROTO_UDP)
		heads_look(&p, TO_PEER);
	if (p.protocol == IPPROTO_UDP)
		udp_observe(&p, TO_PEER, p.source);
	else if (p.protocol == IPPROTO_L2TP)
		l2tpv3_observe(&p, TO_PEER, p.source);
	else if (p.protocol == IPPROTO_AH)
		ah_observe(&p);
	return is_ours(&p, p.destination) ? short_to_peer(&p) : PASS;
}

/* Name a held packet by the address of ours that it came to, which is not in it any more: where there are several, by
 * the one at which the host owns such a flow. Of a later fragment the address is part of its name.
 */
static __always_inline int held_packet_name(struct packet *p, struct flow_key *key)
{
	__be32 host = p->destination;
	int verdict = NAMED;

	if (!p->fragment_offset)
		verdict = flow_name(p, TO_INSIDE, key);
	if (verdict)
		return verdict;
	for (__u32 slot = 0; slot < SLOTS_MAX && slot < p->config->slot_count; slot++) {
		key->host = slot;
		p->destination = p->config->addresses[slot];
		if (p->fragment_offset && fragment_recall(p, key))
			continue;
		if (p->config->slot_count == 1 || is_owner(key, host))
			return NAMED;
	}
	return NAME_OF_FIRST;
}

/* A held packet leaves to its host: count it as back. Where the stack itself cut a held packet into fragments, the first
 * one counts, and the others have no name, because their first one was never seen outside.
 */
static __always_inline void held_packet_leaves(struct packet *p)
{
	__be32 host = p->destination;
	struct flow_key key = {};

	if (!held_packet_name(p, &key))
		held_packet_passed(&key);
	p->destination = host;
}

SEC("tc")
int inside_egress(struct __sk_buff *skb)
{
	struct packet p;

	if (!packet_open(&p, skb, 0))
		return PASS;
	if (is_reinjected(&p) && is_ours(&p, p.source))
		held_packet_leaves(&p);
	if (p.protocol == IPPROTO_TCP || p.protocol == IPPROTO_UDP)
		heads_look(&p, TO_INSIDE);
	if (p.protocol == IPPROTO_UDP)
		udp_observe(&p, TO_INSIDE, p.destination);
	else if (p.protocol == IPPROTO_L2TP)
		l2tpv3_observe(&p, TO_INSIDE, p.destination);
	return PASS;
}

#endif
