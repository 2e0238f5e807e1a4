/* SPDX-License-Identifier: GPL-2.0-or-later */
/* To the outside: after connection tracking and routing, as the last thing before the wire. */
#ifndef THROUGHWAY_OUTSIDE_EGRESS_H
#define THROUGHWAY_OUTSIDE_EGRESS_H

#include "icmp.h"
#include "trace.h"

/* Send the packet with our address instead of the host's. Nobody outside has use for our marks. */
static __always_inline int send_to_peer(struct packet *p, const struct flow_key *key,
		struct mapping *mapping, int was_held)
{
	__be32 ours = address_of(p->config, mapping->slot);

	if (!ours)
		return drop(REASON_NO_OUTSIDE_ADDRESS);
	if (source_replace(p, ours))
		return drop(REASON_REWRITE_FAILED);
	mapping_count(p, mapping);
	trace_packet(key, mapping);
	mark_set(p, 0);
	count(REASON_TRANSLATED_TO_PEER);
	if (was_held)
		held_packet_passed(key);
	return PASS;
}

/* What is not ours to translate passes as it is. A packet that was forwarded and has another source than ours is
 * counted: nobody translated it. That is right for a public network behind this router, and wrong for all others.
 */
static __always_inline int leave(struct packet *p)
{
	if (p->skb->ingress_ifindex && !is_our_address(p->config, p->source))
		count(REASON_UNTRANSLATED);
	return PASS;
}

/* A packet of a host to its peer. It leaves with our address or not at all: an inside address on the wire
 * would tell strangers of the host and bring no answer.
 */
static __always_inline int flow_to_peer(struct packet *p)
{
	int was_held = is_reinjected(p);
	struct mapping *mapping;
	struct flow_key key;
	int verdict;

	if (!p->config->slot_count)
		return drop(REASON_NO_OUTSIDE_ADDRESS);
	verdict = flow_name(p, TO_PEER, &key);
	if (verdict == NAME_OF_FIRST) {
		peer_becomes_known(p, key.peer, key.host);
		verdict = fragment_hold(p, &key);
		if (verdict != HOLD_OPEN)
			return verdict;
		verdict = flow_name(p, TO_PEER, &key);
	}
	if (verdict == NAME_NOT_OURS)
		return leave(p);
	if (verdict)
		return drop(verdict > 0 ? verdict : REASON_FRAGMENT_BEFORE_FIRST);
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (!mapping && was_held)
		return drop(REASON_NO_CANDIDATE);
	fragment_came(p, &key, FRAGMENT_KNOWN, was_held);
	if (!mapping || !(was_held || (mapping->flags & MAPPING_ACTIVE))) {
		peer_becomes_known(p, key.peer, key.host);
		verdict = hold(p, &key);
		if (verdict != HOLD_OPEN)
			return verdict;
		mapping = bpf_map_lookup_elem(&mappings, &key);
		if (!mapping)
			return drop(REASON_NO_CANDIDATE);
	}
	return send_to_peer(p, &key, mapping, was_held);
}

/* What the router sends itself goes its way. The daemon learns of each new flow by a copy, so that the router is
 * a candidate for what the peer sends back. PPTP's GRE has our address from masquerade, and is not the router's.
 */
static __always_inline int flow_of_router(struct packet *p)
{
	struct mapping *mapping;
	struct flow_key key;

	int verdict = flow_name(p, TO_PEER, &key);

	if (verdict == NAME_NOT_OURS)
		return PASS;
	count(REASON_ROUTER_OWN);
	if (verdict)
		return PASS;
	if (p->protocol == IPPROTO_L2TP)
		l2tpv3_observe(p, TO_PEER, 0);
	key.host = 0; /* also the router's name as a sender that pays for its questions */
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (mapping) {
		mapping_count(p, mapping);
		trace_packet(&key, mapping);
		return PASS;
	}
	if (may_ask(p, &key)) {
		peer_becomes_known(p, key.peer, 0);
		punt_copy(p, &key);
	}
	return PASS;
}

/* UDP with our address: what a socket of the router sends is the router's. A host's packet has our source here too,
 * from masquerade, but no socket.
 */
static __always_inline int udp_with_our_address(struct packet *p)
{
	if (!p->skb->sk)
		return leave(p);
	udp_observe(p, TO_PEER, 0);
	return is_ours(p, p->destination) ? flow_of_router(p) : leave(p);
}

SEC("tc")
int outside_egress(struct __sk_buff *skb)
{
	struct packet p;
	int is_from_us;

	if (!packet_open(&p, skb, 1))
		return PASS;
	is_from_us = is_our_address(p.config, p.source);
	/* A held packet from outside comes back: it is turned round to go its way in. */
	if (is_reinjected(&p) && is_our_address(p.config, p.destination)) {
		if (is_returned(&p))
			mark_set(&p, 0);
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	}
	if (is_returned(&p))
		mark_set(&p, 0);
	if (p.protocol == IPPROTO_UDP && is_from_us)
		return udp_with_our_address(&p);
	if (is_from_us && is_ours(&p, p.destination) && skb->mark & p.config->mark_carried) {
		mark_set(&p, 0); /* it came by the short path, and was counted there */
		return PASS;
	}
	if (is_ours(&p, p.destination))
		return is_from_us ? flow_of_router(&p) : flow_to_peer(&p);
	if (p.protocol == IPPROTO_ICMP && icmp_error_to_peer(&p) == TC_ACT_SHOT)
		return TC_ACT_SHOT;
	return leave(&p);
}

#endif
