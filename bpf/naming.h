/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Naming: which packets are ours to carry, and which flow one belongs to. */
#ifndef THROUGHWAY_NAMING_H
#define THROUGHWAY_NAMING_H

#include "wire.h"

/* What naming a packet comes to, when it is not one of enum reason. */
#define NAMED 0
#define NAME_NOT_OURS (-1)   /* the kernel's own business */
#define NAME_OF_FIRST (-2)   /* a later fragment whose first one was not seen */

/* Protocols that are the kernel's whatever the packet is: those that its connection tracking translates, and AH,
 * which no NAT can carry and the packet filter refuses.
 */
static __always_inline int is_portless(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_ICMP:
	case IPPROTO_IGMP:
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_DCCP:
	case IPPROTO_AH:
	case IPPROTO_SCTP:
	case IPPROTO_UDPLITE:
		return 0;
	}
	return 1;
}

/* Whether it is ours to carry: without ports, and not left to the kernel by a switch of the operator. */
static __always_inline int is_carried(const struct config *config, __u8 protocol)
{
	return is_portless(protocol) && !(config->unassisted[protocol >> 5] & (1u << (protocol & 31)));
}

/* Multicast, broadcast, and what RFC 1112 section 4 reserves: nobody there is a peer. */
static __always_inline int is_group(__be32 address)
{
	return bpf_ntohl(address) >= 0xe0000000;
}

/* Read a port that both ends of a datagram use and that may be kept; 0 for all other datagrams. The UDP header
 * begins `at` bytes behind the IP header.
 */
static __always_inline __u16 port_read(const struct packet *p, __u32 at)
{
	struct udphdr udp;

	if (payload_read(p, at, &udp, sizeof(udp)) || udp.source != udp.dest)
		return 0;
	if (udp.source == bpf_htons(PORT_IKE))
		return PORT_IKE;
	return udp.source == bpf_htons(PORT_L2TP) ? PORT_L2TP : 0;
}

/* Which ports are kept with this peer. */
static __always_inline __u32 kept_of(const struct packet *p, __be32 peer)
{
	__u32 *kept = bpf_map_lookup_elem(&kept_ports, &peer);

	return p->config->ports_kept | (kept ? *kept : 0);
}

static __always_inline int is_kept(const struct packet *p, __be32 peer, __u16 port)
{
	return port && (kept_of(p, peer) & (port == PORT_IKE ? KEPT_IKE : KEPT_L2TP));
}

/* Whether a datagram may be one that keeps its port. Every fragment from such a peer may be of one: what the first
 * one says is heard later. All others are told by one comparison of their ports.
 */
static __noinline int may_keep_port(const struct packet *p, __be32 peer)
{
	if (p->fragment_offset || p->more_fragments)
		return kept_of(p, peer) != 0;
	return is_kept(p, peer, port_read(p, 0));
}

/* Whether a packet to or from this peer is ours by what is told of it without its first fragment. */
static __always_inline int is_ours(const struct packet *p, __be32 peer)
{
	if (is_group(p->source) || is_group(p->destination))
		return 0;
	return p->protocol == IPPROTO_UDP ? may_keep_port(p, peer) : is_carried(p->config, p->protocol);
}

static __always_inline int gre_discriminator(const struct packet *p, __u32 at, __u64 *discriminator)
{
	struct gre_header gre;
	__u16 flags;
	__be32 key;

	if (payload_read(p, at, &gre, sizeof(gre)))
		return REASON_MALFORMED;
	flags = bpf_ntohs(gre.flags);
	if ((flags & GRE_VERSION) == GRE_VERSION_PPTP)
		return NAME_NOT_OURS;
	if (flags & (GRE_VERSION | GRE_ROUTING))
		return REASON_MALFORMED;
	*discriminator = 0;
	if (!(flags & GRE_KEY))
		return NAMED;
	at += sizeof(gre) + (flags & GRE_CHECKSUM ? 4 : 0);
	if (payload_read(p, at, &key, sizeof(key)))
		return REASON_MALFORMED;
	*discriminator = DISCRIMINATOR_WIDE | bpf_ntohl(key);
	return NAMED;
}

static __always_inline int l2tpv3_discriminator(const struct packet *p, __u32 at, __u64 *discriminator)
{
	struct l2tpv3_control control;

	if (payload_read(p, at, &control.session, sizeof(control.session)))
		return REASON_MALFORMED;
	*discriminator = bpf_ntohl(control.session);
	if (control.session)
		return NAMED;
	if (payload_read(p, at, &control, sizeof(control)))
		return REASON_MALFORMED;
	*discriminator = DISCRIMINATOR_WIDE | bpf_ntohl(control.connection);
	return NAMED;
}

/* The initiator SPI, which is never 0 (RFC 7296 section 3.1, RFC 2408 section 2.5.3). */
static __always_inline int ike_discriminator(const struct packet *p, __u32 at, __u64 *discriminator)
{
	__be64 spi;

	if (payload_read(p, at, &spi, sizeof(spi)) || !spi)
		return REASON_MALFORMED;
	*discriminator = bpf_be64_to_cpu(spi);
	return NAMED;
}

static __always_inline int l2tp_discriminator(const struct packet *p, __u32 at, __u64 *discriminator)
{
	__be16 word[4] = {};
	__u16 flags;

	if (payload_read(p, at, word, 6))
		return REASON_MALFORMED;
	flags = bpf_ntohs(word[0]);
	if ((flags & L2TP_VERSION) == 2) {
		*discriminator = DISCRIMINATOR_TUNNEL | bpf_ntohs(flags & L2TP_HAS_LENGTH ? word[2] : word[1]);
		return NAMED;
	}
	if ((flags & L2TP_VERSION) != 3 || payload_read(p, at, word, sizeof(word)))
		return REASON_MALFORMED;
	*discriminator = (__u64)bpf_ntohs(word[2]) << 16 | bpf_ntohs(word[3]);
	if (flags & L2TP_CONTROL)
		*discriminator |= DISCRIMINATOR_WIDE;
	return NAMED;
}

/* A datagram that does not keep its port is the kernel's. */
static __always_inline int udp_discriminator(const struct packet *p, __be32 peer, __u32 at, __u64 *discriminator,
		__u16 *port)
{
	*port = port_read(p, at);
	if (!is_kept(p, peer, *port))
		return NAME_NOT_OURS;
	at += sizeof(struct udphdr);
	return *port == PORT_IKE ? ike_discriminator(p, at, discriminator) : l2tp_discriminator(p, at, discriminator);
}

/* Read what names the flow from the header of this protocol, which begins `at` bytes behind the IP header of
 * the packet: at 0, or where an ICMP error quotes it.
 */
static __always_inline int discriminator_read(const struct packet *p, __u8 protocol, __be32 peer, __u32 at,
		__u64 *discriminator, __u16 *port)
{
	struct esp_header esp;

	*port = 0;
	if (protocol == IPPROTO_UDP)
		return udp_discriminator(p, peer, at, discriminator, port);
	if (protocol == IPPROTO_ESP) {
		if (payload_read(p, at, &esp, sizeof(esp)))
			return REASON_MALFORMED;
		*discriminator = bpf_ntohl(esp.spi);
		return *discriminator <= SPI_RESERVED_MAX ? REASON_RESERVED_SPI : NAMED;
	}
	if (protocol == IPPROTO_GRE)
		return gre_discriminator(p, at, discriminator);
	if (protocol == IPPROTO_L2TP)
		return l2tpv3_discriminator(p, at, discriminator);
	*discriminator = 0;
	return NAMED;
}

/* Whether the host gets the packets of this flow, alone or with others. Not static: the verifier then looks at it once,
 * and not again in every round of a loop that calls it.
 */
__noinline int is_owner(const struct flow_key *key, __be32 host)
{
	struct mapping *mapping;
	struct fan_out *list;

	if (!key)
		return 0;
	mapping = bpf_map_lookup_elem(&mappings, key);
	if (!mapping)
		return 0;
	if (!(mapping->flags & MAPPING_FAN_OUT))
		return mapping->host == host;
	list = bpf_map_lookup_elem(&fan_outs, key);
	if (!list)
		return 0;
	for (__u32 i = 0; i < FAN_OUT_MAX && i < list->count; i++) {
		if (list->hosts[i] == host)
			return 1;
	}
	return 0;
}

static __always_inline void fragment_name(const struct packet *p, enum direction direction, struct fragment_key *name)
{
	name->source = p->source;
	name->destination = p->destination;
	name->id = p->id;
	name->protocol = p->protocol;
	name->direction = direction;
}

/* Name a later fragment by its first one. */
static __always_inline int fragment_recall(const struct packet *p, struct flow_key *key)
{
	struct fragment_key name;
	struct fragment *first;

	fragment_name(p, key->direction, &name);
	first = bpf_map_lookup_elem(&fragments, &name);
	if (!first || first->state == FRAGMENT_AWAITED || bpf_ktime_get_coarse_ns() > first->until_ns)
		return NAME_OF_FIRST;
	if (first->state == FRAGMENT_PASSES)
		return NAME_NOT_OURS;
	*key = first->key;
	return NAMED;
}

/* Name the flow of a packet that is ours by its protocol. More than 0 is the reason why it has no name. */
static __noinline int flow_name(const struct packet *p, enum direction direction, struct flow_key *key)
{
	*key = (struct flow_key){
		.host = direction == TO_PEER ? p->source : slot_of(p->config, p->destination),
		.peer = direction == TO_PEER ? p->destination : p->source,
		.protocol = p->protocol,
		.direction = direction,
	};
	if (p->fragment_offset)
		return fragment_recall(p, key);
	if (!packet_is_whole(p))
		return REASON_MALFORMED;
	return discriminator_read(p, p->protocol, key->peer, 0, &key->discriminator, &key->port);
}

#endif
