/* SPDX-License-Identifier: GPL-2.0-or-later */
/* To the outside: after connection tracking and routing, as the last thing before the wire. */
#ifndef THROUGHWAY_OUTSIDE_EGRESS_H
#define THROUGHWAY_OUTSIDE_EGRESS_H

#include "observe.h"

/* Send the packet with our address instead of the host's. Nobody outside has use for our marks. */
static __always_inline int send_to_peer(struct packet *p, const struct flow_key *key,
		struct mapping *mapping, int was_held)
{
	if (source_replace(p, p->config->outside_address))
		return drop(REASON_REWRITE_FAILED);
	mapping_count(p, mapping);
	mark_set(p, 0);
	count(REASON_TRANSLATED_TO_PEER);
	if (was_held)
		held_packet_passed(key);
	return PASS;
}

/* ESP of a host to its peer. It leaves with our address or not at all: an inside address on the wire
 * would tell strangers of the host and bring no answer.
 */
static __always_inline int esp_to_peer(struct packet *p)
{
	int was_held = is_reinjected(p);
	struct mapping *mapping;
	struct flow_key key;
	int verdict;

	if (!p->config->outside_address)
		return drop(REASON_NO_OUTSIDE_ADDRESS);
	verdict = esp_flow(p, TO_PEER, &key);
	if (verdict)
		return drop(verdict);
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (!mapping && was_held)
		return drop(REASON_NO_CANDIDATE);
	fragment_remember(p, &key);
	if (!mapping || !(was_held || (mapping->flags & MAPPING_ACTIVE))) {
		peer_becomes_known(p, key.peer);
		verdict = hold(p, &key);
		if (verdict != HOLD_OPEN)
			return verdict;
		mapping = bpf_map_lookup_elem(&mappings, &key);
		if (!mapping)
			return drop(REASON_NO_CANDIDATE);
	}
	return send_to_peer(p, &key, mapping, was_held);
}

/* The router's own ESP goes its way. The daemon learns of each new SPI by a copy, so that the router is a
 * candidate for what the peer sends back.
 */
static __always_inline int esp_of_router(struct packet *p)
{
	struct mapping *mapping;
	struct flow_key key;

	count(REASON_ROUTER_OWN);
	if (esp_flow(p, TO_PEER, &key))
		return PASS;
	key.host = 0; /* also the router's name as a sender that pays for its questions */
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (mapping) {
		mapping_count(p, mapping);
		return PASS;
	}
	if (may_ask(p, &key)) {
		peer_becomes_known(p, key.peer);
		punt_copy(p, &key);
	}
	return PASS;
}

SEC("tc")
int outside_egress(struct __sk_buff *skb)
{
	__be32 ours;
	struct packet p;

	if (!packet_open(&p, skb, 1))
		return PASS;
	ours = p.config->outside_address;
	/* A held packet from outside comes back: it is turned round to go its way in. */
	if (ours && p.destination == ours && is_reinjected(&p))
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	if (p.protocol == IPPROTO_ESP)
		return ours && p.source == ours ? esp_of_router(&p) : esp_to_peer(&p);
	/* What a socket of the router sends is the router's. A host's packet has our source here too, from
	 * masquerade, but no socket.
	 */
	if (ours && p.source == ours && skb->sk)
		ike_observe(&p, TO_PEER, 0);
	return PASS;
}

#endif
