/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading packets: IPv4, the protocols without ports, ICMP errors, and the head of IKE. Nothing here writes
 * or decides.
 *
 * An IPv4 header may have options, so everything behind it is found by its IHL. Only the bytes that
 * the IP header counts belong to the packet: short Ethernet frames are padded.
 */
#ifndef THROUGHWAY_WIRE_H
#define THROUGHWAY_WIRE_H

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

/* RFC 791 section 3.1: flags and fragment offset share 16 bits.
 *
 *    0   1   2   3                                                15
 *   +---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+
 *   | 0 |DF |MF |          fragment offset, in 8 bytes              |
 *   +---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+
 */
#define IP_MORE_FRAGMENTS 0x2000
#define IP_FRAGMENT_OFFSET 0x1fff

/* RFC 4303 section 2. Behind these eight bytes everything is encrypted.
 *
 *    0                   1                   2                   3
 *    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |               Security Parameters Index (SPI)                 |
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |                      Sequence Number                          |
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
struct esp_header {
	__be32 spi;
	__be32 sequence;
};

#define SPI_RESERVED_MAX 255 /* RFC 4303 section 2.1: never names a security association */

/* RFC 2784 section 2.1 and RFC 2890 section 2.1. R announces the source routes of RFC 1701, with which a packet
 * has to be discarded (RFC 2784 section 2.3). Version 1 is PPTP's (RFC 2637 section 4.1): the kernel's helper follows it, and we do not.
 *
 *    0   1   2   3                              13         15  16              31
 *   +---+---+---+---+---------------------------+------------+------------------+
 *   | C | R | K | S |         reserved          |  version   |  protocol type   |
 *   +---+---+---+---+---------------------------+------------+------------------+
 *   |            checksum, reserved (with C)                                    |
 *   +---------------------------------------------------------------------------+
 *   |            key (with K)                                                   |
 *   +---------------------------------------------------------------------------+
 *   |            sequence number (with S)                                       |
 *   +---------------------------------------------------------------------------+
 */
#define GRE_CHECKSUM 0x8000
#define GRE_ROUTING 0x4000
#define GRE_KEY 0x2000
#define GRE_VERSION 0x0007
#define GRE_VERSION_PPTP 1

struct gre_header {
	__be16 flags;
	__be16 type;
};

/* RFC 3931 section 4.1.1: over IP, a session ID of 0 says that a control message follows.
 *
 *    0                               32                              64
 *   +-------------------------------+-------------------------------+- - -
 *   | session ID, not 0             | data
 *   +-------------------------------+-------------------------------+-------------------------------+- - -
 *   | 0                             | flags, version, length        | control connection ID         |
 *   +-------------------------------+-------------------------------+-------------------------------+- - -
 */
#define L2TPV3_SESSION_SIZE 4

struct l2tpv3_control {
	__be32 session;
	__be32 flags_and_length;
	__be32 connection;
};

/* Above the 32 bits of a key or an ID: GRE has a key, or the ID is a control connection's. */
#define DISCRIMINATOR_WIDE (1ull << 32)

/* L2TP over UDP. Version 2 (RFC 2661 section 3.1); the length is there with L:
 *
 *   0        16         32           48
 *   +--------+----------+------------+------------+- - -
 *   | flags  | (length) | tunnel ID  | session ID |
 *   +--------+----------+------------+------------+- - -
 *
 * Version 3 (RFC 3931 section 4.1.2), of which control messages have T:
 *
 *   +--------+----------+-------------------------+- - -
 *   | flags  | length   | session ID, or with T control connection ID
 *   +--------+----------+-------------------------+- - -
 */
#define PORT_L2TP 1701
#define L2TP_CONTROL 0x8000
#define L2TP_HAS_LENGTH 0x4000
#define L2TP_VERSION 0x000f

/* Above the 16 bits of a tunnel ID of version 2, which names a control connection and all of its sessions. */
#define DISCRIMINATOR_TUNNEL (3ull << 32)

/* RFC 792. <linux/icmp.h> has this too, and with it the C library's sockets, which BPF has not. The four
 * bytes behind the checksum differ from type to type; none of them matters here.
 */
struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

#define ICMP_UNREACHABLE 3
#define ICMP_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

#define UNREACHABLE_PROTOCOL 2
#define UNREACHABLE_PORT 3
#define UNREACHABLE_TOO_BIG 4

/* RFC 7296 section 3.1, and in the same places RFC 2408 section 3.1. On UDP 4500 four zero bytes stand
 * before it, where ESP in UDP has its SPI (RFC 3948 section 2.2).
 *
 *   0               8               16  17  18  19  20      24      28
 *   +---------------+---------------+---+---+---+---+-------+-------+
 *   | initiator SPI | responder SPI |npl|ver|xch|flg|msg ID |length |
 *   +---------------+---------------+---+---+---+---+-------+-------+
 */
#define PORT_IKE 500
#define PORT_IKE_FLOATED 4500
#define NON_ESP_MARKER_SIZE 4

/* One IPv4 packet, as far as its own header tells. */
struct packet {
	struct __sk_buff *skb;
	const struct config *config;
	__u32 at;          /* where the IP header is in the data, or AT_NETWORK_HEADER */
	__be32 source;
	__be32 destination;
	__u32 size;        /* of the IP packet, header included */
	__u32 header_size; /* of the IP header, options included */
	__u32 fragment_offset;
	__be16 id;
	__u8 more_fragments;
	__u8 tos;          /* DSCP and ECN */
	__u8 protocol;
};

/* Inside interfaces may be of several kinds, and nothing is written there: the kernel knows where their
 * network header is. On the outside interface the daemon tells the size of the link header, and reads
 * and writes use the same offset. The kernel's own idea is wrong there for frames that AF_PACKET sent on
 * an interface whose hard_header_len is not what its frames carry (ppp: 4 bytes, none of them present).
 */
#define AT_NETWORK_HEADER (~0u)

static __always_inline long packet_read(const struct packet *p, __u32 offset, void *to, __u32 size)
{
	if (p->at == AT_NETWORK_HEADER)
		return bpf_skb_load_bytes_relative(p->skb, offset, to, size, BPF_HDR_START_NET);
	return bpf_skb_load_bytes(p->skb, p->at + offset, to, size);
}

/* Read the IPv4 header. False for what is not IPv4, or so broken that the stack will say so: all of that
 * is passed on by everybody. So are frames of a VLAN on top of this interface, which are not on its
 * network; the tag with ID 0 only has a priority.
 */
static __always_inline int packet_open(struct packet *p, struct __sk_buff *skb, int is_outside)
{
	__u32 zero = 0;
	struct iphdr ip;

	p->skb = skb;
	p->config = bpf_map_lookup_elem(&config, &zero);
	if (!p->config || skb->protocol != bpf_htons(ETH_P_IP))
		return 0;
	if (skb->vlan_present && (skb->vlan_tci & 0x0fff))
		return 0;
	p->at = is_outside ? p->config->link_header_size : AT_NETWORK_HEADER;
	if (packet_read(p, 0, &ip, sizeof(ip)))
		return 0;
	p->source = ip.saddr;
	p->destination = ip.daddr;
	p->size = bpf_ntohs(ip.tot_len);
	p->header_size = ip.ihl * 4;
	p->fragment_offset = bpf_ntohs(ip.frag_off) & IP_FRAGMENT_OFFSET;
	p->more_fragments = !!(bpf_ntohs(ip.frag_off) & IP_MORE_FRAGMENTS);
	p->id = ip.id;
	p->tos = ip.tos;
	p->protocol = ip.protocol;
	return ip.version == 4 && p->header_size >= sizeof(ip) && p->size >= p->header_size;
}

#define SLOT_NONE (~0u)

/* The slot of an address of ours outside, or SLOT_NONE. Not static: the verifier then looks at it once, and knows nothing
 * of what it returns. A 0 that it knew would have it go through all that follows once more.
 */
__noinline __u32 slot_of(const struct config *config, __be32 address)
{
	if (!config || !address)
		return SLOT_NONE;
	for (__u32 slot = 0; slot < SLOTS_MAX && slot < config->slot_count; slot++) {
		if (address == config->addresses[slot])
			return slot;
	}
	return SLOT_NONE;
}

/* The address in a slot, or 0. */
static __always_inline __be32 address_of(const struct config *config, __u32 slot)
{
	return slot < SLOTS_MAX ? config->addresses[slot] : 0;
}

static __always_inline int is_our_address(const struct config *config, __be32 address)
{
	return slot_of(config, address) < SLOTS_MAX;
}

/* Read `size` bytes of payload from this offset behind the IP header; not 0 if the packet ends before. */
static __always_inline long payload_read(const struct packet *p, __u32 offset, void *to, __u32 size)
{
	if (p->size < p->header_size + offset + size)
		return -1;
	return packet_read(p, p->header_size + offset, to, size);
}

/* Whether all that the IP header counts has arrived. */
static __always_inline int packet_is_whole(const struct packet *p)
{
	__u32 at = p->at == AT_NETWORK_HEADER ? 0 : p->at;

	return at + p->size <= p->skb->len;
}

#endif
