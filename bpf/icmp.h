/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ICMP errors about packets that we translate, both ways (RFC 5508 sections 4.2, 4.3).
 *
 *   +-----------+-----------------+--------------------------+------------------+- - -
 *   | IP header | ICMP header (8) | IP header of the packet  | its first bytes: |
 *   |           | type code csum  | that was not liked       | SPI, key, ...    |
 *   +-----------+-----------------+--------------------------+------------------+- - -
 *
 * From outside they quote a packet as we sent it, and its source becomes the host. From inside they quote a
 * packet as the host got it, and its destination becomes our address; so does the outer source, unless the error
 * is the router's own. Routers need quote no more than the IP header and eight bytes behind it (RFC 792), which
 * name all flows but those of GRE with a checksum and a key, of L2TPv3 control connections, and of kept ports.
 */
#ifndef THROUGHWAY_ICMP_H
#define THROUGHWAY_ICMP_H

#include "observe.h"

struct quote {
	struct icmp_header icmp;
	struct iphdr ip;
	__u64 discriminator;
	__u16 port;
	int verdict; /* NAMED, or why the quoted packet has no name */
};

/* Which ICMP messages quote a packet that something on the way did not like (RFC 792). Source quench (4) is
 * deprecated by RFC 6633, but harmless, and a host may still want to see it. A redirect (5) is for the sender's
 * own link: it quotes, and is not passed on.
 */
static __always_inline int is_icmp_error(__u8 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_QUENCH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER_PROBLEM;
}

/* Read the packet that an ICMP message quotes: one that travelled in this direction. Not 0 for messages that quote
 * none, or none of our protocols.
 */
static __noinline int quote_read(const struct packet *p, enum direction direction, struct quote *quote)
{
	__u32 at = sizeof(quote->icmp);

	if (p->fragment_offset || payload_read(p, 0, &quote->icmp, sizeof(quote->icmp)))
		return -1;
	if (!is_icmp_error(quote->icmp.type) && quote->icmp.type != ICMP_REDIRECT)
		return -1;
	if (payload_read(p, at, &quote->ip, sizeof(quote->ip)))
		return -1;
	if (quote->ip.version != 4 || quote->ip.ihl < 5)
		return -1;
	if (quote->ip.protocol != IPPROTO_UDP && !is_carried(p->config, quote->ip.protocol))
		return -1;
	/* An error is short enough never to be cut (RFC 1812 section 4.3.2.3), and a later fragment has no name. */
	quote->verdict = quote->ip.protocol == IPPROTO_UDP ? NAME_NOT_OURS : REASON_MALFORMED;
	if (p->more_fragments || (quote->ip.frag_off & bpf_htons(IP_FRAGMENT_OFFSET)))
		return 0;
	at += quote->ip.ihl * 4;
	quote->verdict = discriminator_read(p, quote->ip.protocol,
			direction == TO_PEER ? quote->ip.daddr : quote->ip.saddr, at, &quote->discriminator,
			&quote->port);
	return 0;
}

/* Have the checksum of a quoted datagram follow an address of the quoted header, and the checksum of the error follow
 * that. A quotation has the eight bytes of the UDP header (RFC 792).
 */
static __always_inline long quoted_checksum_follow(const struct packet *p, const struct quote *quote, __be32 from,
		__be32 to)
{
	__u32 icmp = p->at + p->header_size;
	__u32 udp = sizeof(struct icmp_header) + quote->ip.ihl * 4 + offsetof(struct udphdr, check);
	__be16 before, after;

	if (quote->ip.protocol != IPPROTO_UDP)
		return 0;
	if (payload_read(p, udp, &before, sizeof(before)))
		return -1;
	if (bpf_l4_csum_replace(p->skb, icmp + udp, from, to, BPF_F_MARK_MANGLED_0 | sizeof(to)))
		return -1;
	if (payload_read(p, udp, &after, sizeof(after)))
		return -1;
	return bpf_l3_csum_replace(p->skb, icmp + offsetof(struct icmp_header, checksum), before, after,
			sizeof(after));
}

/* Replace an address of the quoted IP header, from what it is now. */
static __always_inline long quoted_replace(const struct packet *p, const struct quote *quote, __u32 field, __be32 from,
		__be32 to)
{
	if (quoted_checksum_follow(p, quote, from, to))
		return -1;
	return address_replace(p, p->header_size + sizeof(struct icmp_header), field, from, to);
}

/* An ICMP error about a packet that we translated goes to the host that sent it, with the quoted packet
 * as the host knows it. All others are the stack's.
 */
static __always_inline int icmp_error_to_inside(struct packet *p)
{
	struct quote quote = {};
	struct sender_key sender = {};
	__be32 *found;
	__be32 host;

	if (quote_read(p, TO_PEER, &quote) || quote.verdict || quote.icmp.type == ICMP_REDIRECT)
		return PASS;
	sender.slot = slot_of(p->config, quote.ip.saddr);
	if (sender.slot == SLOT_NONE)
		return PASS;
	sender.peer = quote.ip.daddr;
	sender.protocol = quote.ip.protocol;
	sender.port = quote.port;
	sender.discriminator = quote.discriminator;
	found = bpf_map_lookup_elem(&senders, &sender);
	if (!found)
		return PASS;
	host = *found;
	if (quoted_replace(p, &quote, offsetof(struct iphdr, saddr), quote.ip.saddr, host) ||
	    destination_replace(p, host))
		return drop(REASON_REWRITE_FAILED);
	mark_set(p, p->config->mark_carried);
	count(REASON_ICMP_ERROR_TRANSLATED);
	return PASS;
}

/* A host cannot take a packet that it got. If it got one copy of several, the peer shall not hear of it: another
 * host may be the one that was meant. Not 0 when the message ends here.
 */
static __always_inline int is_disowned(const struct packet *p, const struct quote *quote,
		const struct flow_key *key, __be32 owner, int is_copy)
{
	__u8 code = quote->icmp.code;
	struct report_key what = {
		.host = owner,
		.peer = key->peer,
		.discriminator = key->discriminator,
		.kind = OBSERVED_DISOWNED,
		.protocol = key->protocol,
	};

	if (quote->icmp.type != ICMP_UNREACHABLE || code == UNREACHABLE_TOO_BIG)
		return 0;
	if (p->source == quote->ip.daddr && (is_copy || code == UNREACHABLE_PROTOCOL || code == UNREACHABLE_PORT))
		report(p, &what, code);
	return is_copy;
}

/* Find the flow that the quoted packet came by, and with it the slot of our address that it came to. A host has one
 * address for each peer, but only the daemon knows which.
 */
static __always_inline struct mapping *quoted_mapping(const struct packet *p, struct flow_key *key, __be32 host)
{
	for (__u32 slot = 0; slot < SLOTS_MAX && slot < p->config->slot_count; slot++) {
		key->host = slot;
		if (is_owner(key, host))
			return bpf_map_lookup_elem(&mappings, key);
	}
	return NULL;
}

/* An ICMP error of a host, or of the router itself, about a packet that came from a peer. It leaves with our
 * address outside and in the quotation, or not at all. What quotes a protocol of the kernel's passes: its
 * connection tracking has translated that.
 */
static __always_inline int icmp_error_to_peer(struct packet *p)
{
	struct mapping *mapping = NULL;
	struct quote quote = {};
	struct flow_key key = {};
	__be32 host, owner, ours;
	int is_own;

	if (quote_read(p, TO_INSIDE, &quote) || quote.verdict == NAME_NOT_OURS)
		return PASS;
	if (!p->config->slot_count)
		return drop(REASON_NO_OUTSIDE_ADDRESS);
	host = quote.ip.daddr;
	/* the router's own, about what came to itself */
	is_own = is_our_address(p->config, p->source) && is_our_address(p->config, host);
	owner = is_own ? 0 : host;
	key.peer = quote.ip.saddr;
	key.protocol = quote.ip.protocol;
	key.port = quote.port;
	key.discriminator = quote.discriminator;
	if (!quote.verdict && p->destination == key.peer && quote.icmp.type != ICMP_REDIRECT)
		mapping = quoted_mapping(p, &key, owner);
	if (!mapping)
		return is_own ? PASS : drop(REASON_ICMP_ERROR_UNKNOWN);
	if (is_disowned(p, &quote, &key, owner, mapping->flags & MAPPING_FAN_OUT))
		return drop(REASON_DISOWNED);
	if (is_own)
		return PASS;
	ours = address_of(p->config, key.host);
	if (!ours)
		return drop(REASON_NO_OUTSIDE_ADDRESS);
	if (quoted_replace(p, &quote, offsetof(struct iphdr, daddr), host, ours) || source_replace(p, ours))
		return drop(REASON_REWRITE_FAILED);
	mark_set(p, 0);
	count(REASON_ICMP_ERROR_TRANSLATED);
	return PASS;
}

#endif
