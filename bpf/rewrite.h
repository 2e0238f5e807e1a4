/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rewriting: one address of the IP header and the checksums that cover it, and nothing else of the packet.
 *
 * ESP does not cover the outer addresses (RFC 4303 section 3.4.4), nor does any checksum of GRE (RFC 2784
 * section 2.3) or L2TPv3, so nothing behind the IP header has to follow. The checksum of UDP covers the addresses
 * (RFC 768), and follows where there is one; of a fragmented datagram the first fragment has it. An ICMP error is covered by a checksum over the packet that it quotes, but the quoted address
 * and the quoted header's own checksum change by opposite amounts (RFC 1624), and it stays right. The
 * TTL is the stack's.
 *
 * For the same reason skb->csum of a received packet stays right, and no store asks for it to be mended; for UDP's
 * checksum the kernel mends it.
 */
#ifndef THROUGHWAY_REWRITE_H
#define THROUGHWAY_REWRITE_H

#include "naming.h"

/* Replace the address at `field` of the IP header that begins `header` bytes behind the start of our own. */
static __always_inline long address_replace(const struct packet *p, __u32 header, __u32 field,
		__be32 from, __be32 to)
{
	__u32 at = p->at + header;

	if (from == to)
		return 0;
	if (bpf_l3_csum_replace(p->skb, at + offsetof(struct iphdr, check), from, to, sizeof(to)))
		return -1;
	return bpf_skb_store_bytes(p->skb, at + field, &to, sizeof(to), 0);
}

/* Have the checksum of a datagram follow an address of its own header. It stays 0 where there is none. */
static __always_inline long checksum_follow(const struct packet *p, __be32 from, __be32 to)
{
	__u32 at = p->at + p->header_size + offsetof(struct udphdr, check);

	if (p->protocol != IPPROTO_UDP || p->fragment_offset || from == to)
		return 0;
	return bpf_l4_csum_replace(p->skb, at, from, to, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0 | sizeof(to));
}

static __always_inline long source_replace(struct packet *p, __be32 to)
{
	__be32 from = p->source;

	p->source = to;
	if (checksum_follow(p, from, to))
		return -1;
	return address_replace(p, 0, offsetof(struct iphdr, saddr), from, to);
}

static __always_inline long destination_replace(struct packet *p, __be32 to)
{
	__be32 from = p->destination;

	p->destination = to;
	if (checksum_follow(p, from, to))
		return -1;
	return address_replace(p, 0, offsetof(struct iphdr, daddr), from, to);
}

/* The marks: two bits of ours under a mask. All others belong to somebody else and stay as they are. */
static __always_inline int is_reinjected(const struct packet *p)
{
	return !!(p->skb->mark & p->config->mark_reinjected);
}

/* Both bits, on the way out: a fragment that waited for its first one. It was never numbered among the held
 * packets of its flow, so from here on it is as if it came only now.
 */
static __always_inline int is_returned(const struct packet *p)
{
	__u32 both = p->config->mark_reinjected | p->config->mark_carried;

	return (p->skb->mark & both) == both;
}

static __always_inline void mark_set(const struct packet *p, __u32 ours)
{
	p->skb->mark = (p->skb->mark & ~p->config->mark_mask) | ours;
}

/* Count a packet for the mapping that it goes by. */
static __always_inline void mapping_count(const struct packet *p, struct mapping *mapping)
{
	__sync_fetch_and_add(&mapping->packets, 1);
	__sync_fetch_and_add(&mapping->bytes, p->size);
	mapping->last_ns = bpf_ktime_get_coarse_ns();
}

#endif
