/* SPDX-License-Identifier: GPL-2.0-or-later */
/* On every inside interface. Nothing is stopped here, and nothing changed but what takes the short path. */
#ifndef THROUGHWAY_INSIDE_H
#define THROUGHWAY_INSIDE_H

#include "observe.h"
#include "short_path.h"

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
	return is_ours(&p) ? short_to_peer(&p) : PASS;
}

/* A held packet leaves to its host: count it as back. A later fragment is named by the address that it
 * came to. Where the stack itself cut a held packet into fragments, the first one counts, and the others
 * have no name, because their first one was never seen outside.
 */
static __always_inline void held_packet_leaves(struct packet *p)
{
	__be32 host = p->destination;
	struct flow_key key;

	p->destination = p->config->outside_address;
	if (!flow_name(p, TO_INSIDE, &key))
		held_packet_passed(&key);
	p->destination = host;
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
