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

/* Multicast, broadcast, and what RFC 1112 section 4 reserves: nobody there is a peer. */
static __always_inline int is_group(__be32 address)
{
	return bpf_ntohl(address) >= 0xe0000000;
}

static __always_inline int is_ours(const struct packet *p)
{
	return is_portless(p->protocol) && !is_group(p->source) && !is_group(p->destination);
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

/* Read what names the flow from the header of this protocol, which begins `at` bytes behind the IP header of
 * the packet: at 0, or where an ICMP error quotes it.
 */
static __always_inline int discriminator_read(const struct packet *p, __u8 protocol, __u32 at,
		__u64 *discriminator)
{
	struct esp_header esp;

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
	return discriminator_read(p, p->protocol, 0, &key->discriminator);
}

#endif
