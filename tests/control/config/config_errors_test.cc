// What the loader says about a file with one fault: rows of a change to a good file, and the exact
// lines expected of it.
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "control/config/config.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

using std::string_literals::operator""s;

constexpr char kGood[] = R"(interfaces:
  - { name: uplink, device: net_null0 }
routes:
  - { prefix: 0.0.0.0/0, interface: uplink, mac: "02:00:00:00:00:fe" }
tunnel: { source_ipv4: 192.0.2.1 }
services:
  - name: web
    vips: [198.51.100.10]
    protocol: tcp
    ports: [80]
    forwarding: ipip
    backends:
      - { name: b1, address: 10.0.0.1 }
      - { name: b2, address: 10.0.0.2 }
)";

// What a row may name.
const std::map<std::string, std::string> kFiles = {
    {"good.txt", "192.0.2.0/24\n"},
    {"bad.txt",
     "\xef\xbb\xbf# who sent spam\r\n"
     "192.0.2.0/24 # yes\r\n"
     "\r\n"
     "  192.0.2.1/24\r\n"
     "2001:db8::/32\r\n"
     "spam.example\xff\x01\r\n"
     "10.0.0.0/8 ; SBL1"},
    {"many.txt", absl::StrReplaceAll(std::string(1000, 'x'), {{"x", "x\n"}})},
    {"short.key", "c4605e01\n"},
    {"letters.key", "000102030405060708090a0b0c0d0e0g\n"},
    {"good.key", " \n000102030405060708090A0B0C0D0E0F\r\n"},
};

struct Row {
  const char* what;
  // The first `from` in the file becomes `to`.
  std::string from;
  std::string to;
  // The lines, each without «file.yaml:».
  std::string errors;
};

const Row kRows[] = {
    {"an unclosed quote", "name: web\n", "name: \"web\n",
     "14:40: not YAML: the file ends inside a text in quotes"},
    {"an unclosed list", "vips: [198.51.100.10]", "vips: [198.51.100.10",
     "9:13: not YAML: the list in [ ] is not closed; allowed after an item: \",\" or \"]\""},
    {"a text with a colon", "name: web\n", "name: web: 1\n",
     "7:14: not YAML: no key can stand here; a text with \": \" in it needs quotes"},
    {"a text that begins with a mark", "name: web\n", "name: @web\n",
     "7:11: not YAML: no text begins with this character; put it in quotes"},
    {"an escape that is none", "name: web\n", "name: \"we\\q\"\n",
     "7:16: not YAML: there is no such escape in \"quotes\"; allowed are \\n, \\t, \\\", \\\\ and "
     "others of YAML's, and in 'single quotes' a backslash is one"},
    {"a tab in the indentation", "    protocol: tcp", "	protocol: tcp",
     "9:2: not YAML: the line is not of the mapping above; its keys begin in one column (the line "
     "starts with a tab; YAML indents with spaces)"},
    {"an anchor", "vips: [198", "vips: &v [198",
     "8:11: anchors are not allowed; write the value again"},
    {"an alias", "ports: [80]", "ports: *p", "10:12: aliases are not allowed; write the value"},
    {"a tag", "ports: [80]", "ports: !!seq [80]",
     "10:12: tags are not allowed; the key says what type its value has"},
    {"a merge key", "    protocol: tcp", "    <<: { protocol: tcp }",
     "9:5: merge keys are not allowed; write the keys"},
    {"a second document", "services:\n",
     "---\n"
     "services:\n",
     "6:1: a second document starts here; one is allowed"},
    {"nesting over 32", "ports: [80]",
     "ports: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
     "10:41: nested deeper than 32 levels"},
    {"a key that is a list", "ports: [80]",
     "? [ports]\n"
     "    : [80]",
     "10:7: a key is expected here, and a key is one word"},
    {"a byte that is not UTF-8", "name: web",
     "name: w\xff"
     "b",
     "7:12: found the byte 0xff, which is not UTF-8; only UTF-8 text is allowed"},
    {"a NUL byte", "name: web",
     "name: w\0"
     "b"s,
     "7:12: found the control character 0x00; only printable text, tabs and line ends are allowed"},
    {"a lone carriage return", "name: web\n", "name: web\r",
     "7:14: found a carriage return alone; lines end with LF or CR LF"},
    {"UTF-16", "interfaces:",
     "\xff\xfe"
     "i",
     "1:1: the file is UTF-16 or UTF-32; only UTF-8 is allowed"},
    {"columns count characters", "{ name: b1, address: 10.0.0.1 }",
     "{ \"é\": 1, name: b1, address: 10.0.0.1 }",
     "13:11: services[web].backends[b1].\"é\": unknown key; allowed: name, address, port, weight, "
     "state, quic_server_id or region"},
    {"an unknown key with a near one", "protocol: tcp", "protocl: tcp",
     "7:5: services[web].protocol: missing; allowed: tcp, udp or any\n"
     "9:5: services[web].protocl: unknown key; allowed: name, vips, protocol, ports, forwarding, "
     "scheduler, table_size, affinity, client_prefix, health_check, min_healthy, slow_start, "
     "limits, quic, regions, default_region or backends; did you mean protocol?"},
    {"an unknown key at the top", "services:\n",
     "colour: red\n"
     "services:\n",
     "6:1: colour: unknown key; allowed: fleet, dataplane, interfaces, routing, routes, tunnel, "
     "services, access, announce or control"},
    {"a key given twice", "    ports: [80]\n",
     "    ports: [80]\n"
     "    ports: [81]\n",
     "11:5: services[web].ports: given twice, first in line 10; allowed: once"},
    {"a missing key of a flow mapping", "{ name: b1, address: 10.0.0.1 }", "{ name: b1 }",
     "13:9: services[web].backends[b1].address: missing; allowed: a unicast address such as "
     "192.0.2.1 or \"2001:db8::1\""},
    {"missing keys of a service",
     "    vips: [198.51.100.10]\n"
     "    protocol: tcp\n",
     "",
     "7:5: services[web].vips: missing; allowed: a list, each item a unicast address or prefix "
     "such as 192.0.2.1 or 192.0.2.0/24\n"
     "7:5: services[web].protocol: missing; allowed: tcp, udp or any"},
    {"a key without a value", "protocol: tcp",
     "protocol:", "9:5: services[web].protocol: found nothing; allowed: tcp, udp or any"},
    {"an item without a value", "      - { name: b1, address: 10.0.0.1 }", "      -",
     "13:7: services[web].backends[0]: found nothing; allowed: a mapping with the keys name, "
     "address, port, weight, state, quic_server_id or region"},
    {"null by name", "name: web", "name: null",
     "7:11: services[0].name: found nothing; allowed: a name: letters, digits, '.', '_' and '-', "
     "at most 63, a letter or digit first"},
    {"a scalar for a list", "vips: [198.51.100.10]", "vips: 198.51.100.10",
     "8:11: services[web].vips: found 198.51.100.10; allowed: a list, [] for an empty one; each "
     "item is a unicast address or prefix such as 192.0.2.1 or 192.0.2.0/24"},
    {"a list for a scalar", "protocol: tcp", "protocol: [tcp]",
     "9:15: services[web].protocol: found a list; allowed: tcp, udp or any"},
    {"a mapping for a scalar", "protocol: tcp", "protocol: { tcp: {} }",
     "9:15: services[web].protocol: found a mapping; allowed: tcp, udp or any"},
    {"a scalar for a mapping", "- { name: b1, address: 10.0.0.1 }", "- b1",
     "13:9: services[web].backends[0]: found b1; allowed: a mapping with the keys name, address, "
     "port, weight, state, quic_server_id or region"},
    {"a list that must not be empty", "vips: [198.51.100.10]", "vips: []",
     "8:11: services[web].vips: found an empty list; allowed: at least 1; an item is a unicast "
     "address or prefix such as 192.0.2.1 or 192.0.2.0/24"},
    {"an enum's value misspelt", "protocol: tcp", "protocol: TCP",
     "9:15: services[web].protocol: found TCP; allowed: tcp, udp or any"},
    {"a number in quotes", "10.0.0.1 }", "10.0.0.1, weight: \"100\" }",
     "13:48: services[web].backends[b1].weight: found \"100\" (a number is written without "
     "quotes); allowed: a whole number from 0 to 65535"},
    {"a number with a leading zero", "10.0.0.1 }", "10.0.0.1, weight: 010 }",
     "13:48: services[web].backends[b1].weight: found 010 (a number has no leading zero); allowed: "
     "a whole number from 0 to 65535"},
    {"a hexadecimal number", "10.0.0.1 }", "10.0.0.1, weight: 0x10 }",
     "13:48: services[web].backends[b1].weight: found 0x10; allowed: a whole number from 0 to "
     "65535"},
    {"a number with an underscore", "10.0.0.1 }", "10.0.0.1, weight: 1_000 }",
     "13:48: services[web].backends[b1].weight: found 1_000; allowed: a whole number from 0 to "
     "65535"},
    {"a fraction", "10.0.0.1 }", "10.0.0.1, weight: 1.5 }",
     "13:48: services[web].backends[b1].weight: found 1.5; allowed: a whole number from 0 to "
     "65535"},
    {"a negative number", "10.0.0.1 }", "10.0.0.1, weight: -1 }",
     "13:48: services[web].backends[b1].weight: found -1; allowed: a whole number from 0 to 65535"},
    {"a number out of range", "10.0.0.1 }", "10.0.0.1, weight: 65536 }",
     "13:48: services[web].backends[b1].weight: found 65536; allowed: a whole number from 0 to "
     "65535"},
    {"a number beyond 64 bits", "services:\n",
     "fleet: { hash_seed: 18446744073709551616 }\n"
     "services:\n",
     "6:21: fleet.hash_seed: found 18446744073709551616; allowed: a whole number from 0 to "
     "18446744073709551615"},
    {"yes for true", "services:\n",
     "dataplane: { hugepages: yes }\n"
     "services:\n",
     "6:25: dataplane.hugepages: found yes; allowed: true or false"},
    {"true in quotes", "services:\n",
     "dataplane: { hugepages: \"true\" }\n"
     "services:\n",
     "6:25: dataplane.hugepages: found \"true\" (written without quotes); allowed: true or false"},
    {"an address with a host name", "10.0.0.1 }", "example.com }",
     "13:30: services[web].backends[b1].address: found example.com; allowed: a unicast address "
     "such as 192.0.2.1 or \"2001:db8::1\""},
    {"an address that is multicast", "10.0.0.1 }", "224.0.0.1 }",
     "13:30: services[web].backends[b1].address: found 224.0.0.1; allowed: a unicast address such "
     "as 192.0.2.1 or \"2001:db8::1\""},
    {"an IPv6 address for IPv4", "source_ipv4: 192.0.2.1", "source_ipv4: \"::1\"",
     "5:24: tunnel.source_ipv4: found \"::1\"; allowed: a unicast IPv4 address such as 192.0.2.1"},
    {"a prefix with host bits", "0.0.0.0/0", "10.0.0.1/8",
     "4:15: routes[0].prefix: found 10.0.0.1/8; allowed: a prefix such as 192.0.2.0/24 or "
     "\"2001:db8::/32\"; 10.0.0.0/8 is the network"},
    {"a prefix too long", "0.0.0.0/0", "10.0.0.0/33",
     "4:15: routes[0].prefix: found 10.0.0.0/33; allowed: a prefix such as 192.0.2.0/24 or "
     "\"2001:db8::/32\""},
    {"a VIP that is multicast", "198.51.100.10", "224.0.0.0/24",
     "8:12: services[web].vips[0]: found 224.0.0.0/24; allowed: a unicast address or prefix such "
     "as 192.0.2.1 or 192.0.2.0/24"},
    {"a VIP of no host", "198.51.100.10", "0.0.0.0",
     "8:12: services[web].vips[0]: found 0.0.0.0; allowed: a unicast address or prefix such as "
     "192.0.2.1 or 192.0.2.0/24"},
    {"a backend at no address", "10.0.0.1 }", "0.0.0.0 }",
     "13:30: services[web].backends[b1].address: found 0.0.0.0; allowed: a unicast address such "
     "as 192.0.2.1 or \"2001:db8::1\""},
    {"a device that is none", "net_null0", "bogus",
     "2:29: interfaces[uplink].device: found bogus; allowed: a PCI address such as 0000:3b:00.0 or "
     "a DPDK device such as net_tap0,iface=gw0 or net_af_xdp0,iface=eth1"},
    {"a PCI address without its function", "net_null0", "\"0000:3b:00\"",
     "2:29: interfaces[uplink].device: found \"0000:3b:00\"; allowed: a PCI address such as "
     "0000:3b:00.0 or a DPDK device such as net_tap0,iface=gw0 or net_af_xdp0,iface=eth1"},
    {"a device without a driver", "net_null0", "\"net_,iface=eth1\"",
     "2:29: interfaces[uplink].device: found \"net_,iface=eth1\"; allowed: a PCI address such as "
     "0000:3b:00.0 or a DPDK device such as net_tap0,iface=gw0 or net_af_xdp0,iface=eth1"},
    {"a MAC address too short", "\"02:00:00:00:00:fe\"", "\"02:00:00:00:00\"",
     "4:50: routes[0].mac: found \"02:00:00:00:00\"; allowed: a unicast MAC address such as "
     "\"02:00:00:00:00:01\""},
    {"a MAC address that is multicast", "\"02:00:00:00:00:fe\"", "\"03:00:00:00:00:fe\"",
     "4:50: routes[0].mac: found \"03:00:00:00:00:fe\"; allowed: a unicast MAC address such as "
     "\"02:00:00:00:00:01\""},
    {"a port 0", "[80]", "[0]",
     "10:13: services[web].ports[0]: found 0; allowed: a port from 1 to 65535 or a range such as "
     "8000-8100"},
    {"a range turned round", "[80]", "[90-80]",
     "10:13: services[web].ports[0]: found 90-80; allowed: a port from 1 to 65535 or a range such "
     "as 8000-8100"},
    {"a name with a slash", "name: b1", "name: b/1",
     "13:17: services[web].backends[b/1].name: found b/1; allowed: a name: letters, digits, '.', "
     "'_' and '-', at most 63, a letter or digit first"},
    {"a duration without a unit", "services:\n",
     "dataplane: { flow_timeouts: { udp: 60 } }\n"
     "services:\n",
     "6:36: dataplane.flow_timeouts.udp: found 60 without a unit; allowed: a duration such as 10s, "
     "15m or 1h, from 1s to 240h in whole 1s"},
    {"a duration in fractions", "services:\n",
     "dataplane: { flow_timeouts: { udp: 1500ms } }\n"
     "services:\n",
     "6:36: dataplane.flow_timeouts.udp: found 1500ms; allowed: a duration such as 10s, 15m or 1h, "
     "from 1s to 240h in whole 1s"},
    {"a percentage without a sign", "ports: [80]",
     "ports: [80]\n"
     "    min_healthy: 30",
     "11:18: services[web].min_healthy: found 30; allowed: 0% to 100%"},
    {"a worker twice", "services:\n",
     "dataplane: { workers: [2, 3, 2] }\n"
     "services:\n",
     "6:30: dataplane.workers[2]: found 2 a second time; allowed: each once"},
    {"an endpoint without a port", "services:\n",
     "control: { http: 127.0.0.1 }\n"
     "services:\n",
     "6:18: control.http: found 127.0.0.1; allowed: an address and a port such as 127.0.0.1:9909 "
     "or \"[::1]:9909\""},
    {"a socket path too long", "services:\n",
     "control: { socket: "
     "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxx }\n"
     "services:\n",
     "6:20: control.socket: found \"/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…\", 108 "
     "bytes; allowed: a path of at most 107 bytes"},
    {"forwarding misspelt", "forwarding: ipip", "forwarding: gu",
     "11:17: services[web].forwarding: found gu; allowed: ipip, gre, gue, vxlan, direct or nat, or "
     "a mapping of one of them to its settings; did you mean gue?"},
    {"forwarding by two means", "forwarding: ipip", "forwarding: { gue: {}, vxlan: {} }",
     "11:28: services[web].forwarding.vxlan: found beside gue; only one of them is allowed"},
    {"forwarding by none", "forwarding: ipip", "forwarding: {}",
     "11:17: services[web].forwarding: one of ipip, gre, gue, vxlan, direct or nat is missing"},
    {"a setting that forwarding does not have", "forwarding: ipip",
     "forwarding: { ipip: { port: 1 } }",
     "11:27: services[web].forwarding.ipip.port: unknown key; allowed: none"},
    {"a setting out of range", "forwarding: ipip", "forwarding: { vxlan: { vni: 16777216 } }",
     "11:33: services[web].forwarding.vxlan.vni: found 16777216; allowed: a whole number from 0 to "
     "16777215"},
    {"a health check without a probe", "    backends:",
     "    health_check: { interval: 1s }\n"
     "    backends:",
     "12:19: services[web].health_check: one of tcp, http, https, dns, icmp or udp is missing"},
    {"a health check with two probes", "    backends:",
     "    health_check: { tcp: {}, icmp: {} }\n"
     "    backends:",
     "12:30: services[web].health_check.icmp: found beside tcp; only one of them is allowed"},
    {"fall 0", "    backends:",
     "    health_check: { tcp: {}, fall: 0 }\n"
     "    backends:",
     "12:36: services[web].health_check.fall: found 0; allowed: a whole number from 1 to 1000"},
    {"a host with a part that is too long", "    backends:",
     "    health_check: { dns: { name: "
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example } }\n"
     "    backends:",
     "12:34: services[web].health_check.dns.name: found "
     "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…\"; allowed: a host name such as "
     "www.example.com"},
    {"a status that is none", "    backends:",
     "    health_check: { http: { status: 200-99 } }\n"
     "    backends:",
     "12:37: services[web].health_check.http.status: found 200-99; allowed: an HTTP status from "
     "100 to 599 or a range such as 200-299"},
    {"two services of one name", "address: 10.0.0.2 }\n",
     "address: 10.0.0.2 }\n"
     "  - name: web\n"
     "    vips: [198.51.100.11]\n"
     "    protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: ipip\n"
     "    backends: []\n",
     "15:11: services[web].name: found \"web\", as in line 7; allowed: a name of its own"},
    {"two backends of one name", "name: b2", "name: b1",
     "14:17: services[web].backends[b1].name: found \"b1\", as in line 13; allowed: a name of its "
     "own"},
    {"two interfaces of one device", "routes:\n",
     "  - { name: b, device: net_null0 }\n"
     "routes:\n",
     "3:24: interfaces[b].device: found \"net_null0\", as in line 2; allowed: a device of its own"},
    {"two interfaces of one device with other arguments", "net_null0 }",
     "\"net_tap0,iface=x\" }\n"
     "  - { name: b, device: \"net_tap0,iface=y\" }",
     "3:24: interfaces[b].device: found \"net_tap0\", as in line 2; allowed: a device of its own"},
    {"two interfaces of one PCI address", "net_null0 }",
     "\"0000:3b:00.0\" }\n"
     "  - { name: b, device: \"3B:00.0\" }",
     "3:24: interfaces[b].device: found \"0000:3b:00.0\", as in line 2; allowed: a device of its "
     "own"},
    {"a VIP, protocol and port twice", "address: 10.0.0.2 }\n",
     "address: 10.0.0.2 }\n"
     "  - name: other\n"
     "    vips: [198.51.100.10]\n"
     "    protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: ipip\n"
     "    backends: []\n",
     "16:12: services[other].vips[0]: found 198.51.100.10, of which services[web] in line 7 takes "
     "tcp port 80 already; allowed: each VIP, protocol and port in one service"},
    {"overlapping ranges", "address: 10.0.0.2 }\n",
     "address: 10.0.0.2 }\n"
     "  - name: other\n"
     "    vips: [198.51.100.10]\n"
     "    protocol: tcp\n"
     "    ports: [70-90]\n"
     "    forwarding: ipip\n"
     "    backends: []\n",
     "16:12: services[other].vips[0]: found 198.51.100.10, of which services[web] in line 7 takes "
     "tcp port 80 already; allowed: each VIP, protocol and port in one service"},
    {"any beside tcp", "address: 10.0.0.2 }\n",
     "address: 10.0.0.2 }\n"
     "  - name: other\n"
     "    vips: [198.51.100.10]\n"
     "    protocol: any\n"
     "    forwarding: ipip\n"
     "    backends: []\n",
     "16:12: services[other].vips[0]: found 198.51.100.10, of which services[web] in line 7 takes "
     "tcp port 80 already; allowed: each VIP, protocol and port in one service"},
    {"a VIP twice in a service", "[198.51.100.10]", "[198.51.100.10, 198.51.100.10/32]",
     "8:27: services[web].vips[1]: found 198.51.100.10 a second time; allowed: each once"},
    {"ports that overlap in a service", "[80]", "[80, 443, 70-90]",
     "10:22: services[web].ports[2]: found 70-90, which overlaps 80; allowed: each port once"},
    {"a route by an unknown interface", "interface: uplink", "interface: uplnk",
     "4:37: routes[0].interface: found \"uplnk\"; allowed: uplink; did you mean uplink?"},
    {"a route twice", "routes:\n",
     "routes:\n"
     "  - { prefix: 0.0.0.0/0, interface: uplink, mac: \"02:00:00:00:00:01\" }\n",
     "5:15: routes[1].prefix: found 0.0.0.0/0 a second time; allowed: each once"},
    {"a kernel_interface that is the TAP itself", "net_null0 }",
     "\"net_tap0,iface=gw0\", kernel_interface: gw0 }",
     "2:69: interfaces[uplink].kernel_interface: found gw0, which is the device of "
     "interfaces[uplink]; allowed: a name of its own"},
    {"the kernel's local table", "services:\n",
     "announce: { kernel_table: 255 }\n"
     "services:\n",
     "6:27: announce.kernel_table: found 255, the table of the host's own addresses, which the "
     "kernel keeps; allowed: another one, best one that nobody else uses, such as 100"},
    {"both kinds of seed", "services:\n",
     "fleet: { hash_seed: 1, hash_seed_file: seed }\n"
     "services:\n",
     "6:24: fleet.hash_seed_file: found beside hash_seed; only one of them is allowed"},
    {"a table that is no prime", "ports: [80]",
     "ports: [80]\n"
     "    table_size: 65536",
     "11:17: services[web].table_size: found 65536; allowed: a prime from the number of backends, "
     "2, to 16777213; the next one is 65537"},
    {"a table smaller than the pool", "ports: [80]",
     "ports: [80]\n"
     "    table_size: 1",
     "11:17: services[web].table_size: found 1; allowed: a whole number from 2 to 16777213"},
    {"a table smaller than three backends", "    backends:",
     "    table_size: 2\n"
     "    backends:\n"
     "      - { name: b0, address: 10.0.0.3 }",
     "12:17: services[web].table_size: found 2; allowed: a prime from the number of backends, 3, "
     "to 16777213; the next one is 3"},
    {"table_size without a table", "ports: [80]",
     "ports: [80]\n"
     "    scheduler: round_robin\n"
     "    table_size: 65537",
     "12:5: services[web].table_size: has no effect with scheduler: round_robin, which does not "
     "go by a table; leave it out"},
    {"affinity without a hash", "ports: [80]",
     "ports: [80]\n"
     "    scheduler: random\n"
     "    affinity: client",
     "12:5: services[web].affinity: has no effect with scheduler: random, which is no hash; leave "
     "it out"},
    {"client_prefix without its affinity", "ports: [80]",
     "ports: [80]\n"
     "    client_prefix: { ipv4: 16 }",
     "11:5: services[web].client_prefix: has no effect without affinity: client_prefix; leave it "
     "out"},
    {"a longest hold that is shorter than the first", "ports: [80]",
     "ports: [80]\n"
     "    health_check: { tcp: {}, flap_damping: { hold: 10m } }",
     "11:52: services[web].health_check.flap_damping.hold: max_hold is 5m, less than hold, 10m; "
     "allowed: max_hold at least as long as hold"},
    {"max_hold of nobody", "    ports: [80]",
     "    ports: [80]\n"
     "    health_check: { tcp: {}, flap_damping: { hold: 0s, max_hold: 1m } }",
     "11:56: services[web].health_check.flap_damping.max_hold: has no effect with hold: 0s; leave "
     "it out"},
    {"min_healthy without a health check", "ports: [80]",
     "ports: [80]\n"
     "    min_healthy: 30%",
     "11:5: services[web].min_healthy: has no effect without health_check; leave it out"},
    {"allow without deny", "services:\n",
     "access: { allow: [10.0.0.0/8], allow_files: [more], deny: [] }\n"
     "services:\n",
     "6:11: access.allow: has no effect without deny or deny_files; leave it out\n"
     "6:32: access.allow_files: has no effect without deny or deny_files; leave it out"},
    {"regions without geographic", "    backends:",
     "    regions: [{ name: eu, prefixes: [] }]\n"
     "    default_region: eu\n"
     "    backends:",
     "12:5: services[web].regions: has no effect without scheduler: geographic; leave it out\n"
     "13:5: services[web].default_region: has no effect without scheduler: geographic; leave it "
     "out"},
    {"a backend's region without geographic", "10.0.0.1 }", "10.0.0.1, region: eu }",
     "13:40: services[web].backends[b1].region: has no effect without scheduler: geographic; leave "
     "it out"},
    {"geographic without regions", "ports: [80]",
     "ports: [80]\n"
     "    scheduler: geographic",
     "7:5: services[web].regions: missing, and scheduler: geographic needs them; allowed: a list "
     "of regions"},
    {"regions that do not exist",
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1 }",
     "    scheduler: geographic\n"
     "    regions: [{ name: eu, prefixes: [10.0.0.0/8], fallback: [us] }]\n"
     "    default_region: eue\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1, region: us }",
     "13:62: services[web].regions[eu].fallback[0]: found \"us\"; allowed: eu\n"
     "14:21: services[web].default_region: found \"eue\"; allowed: eu; did you mean eu?\n"
     "16:48: services[web].backends[b1].region: found \"us\"; allowed: eu\n"
     "17:9: services[web].backends[b2].region: missing; allowed: eu"},
    {"quic on tcp", "    backends:",
     "    quic: { configs: [{ id: 1, server_id_length: 4, nonce_length: 6 }] }\n"
     "    backends:",
     "12:5: services[web].quic: has no effect with protocol: tcp, since QUIC runs over udp; leave "
     "it out"},
    {"a server id without quic", "10.0.0.1 }", "10.0.0.1, quic_server_id: c4605e01 }",
     "13:40: services[web].backends[b1].quic_server_id: has no effect without quic; leave it out"},
    {"a server id of another length",
     "tcp\n"
     "    ports: [80]\n"
     "    forwarding: ipip\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1 }",
     "udp\n"
     "    ports: [80]\n"
     "    quic: { configs: [{ id: 1, server_id_length: 4, nonce_length: 16 }, { id: 1, "
     "server_id_length: 4, nonce_length: 4 }] }\n"
     "    forwarding: ipip\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1, quic_server_id: c4605e }",
     "11:67: services[web].quic.configs[0].nonce_length: found 16 beside a server id of 4 bytes; "
     "allowed: at most 19 together\n"
     "11:79: services[web].quic.configs[1].id: found 1 a second time; allowed: each once\n"
     "14:56: services[web].backends[b1].quic_server_id: found \"c4605e\", 3 bytes; allowed: 4 "
     "bytes, as server_id_length of config 1 says"},
    {"a port on a tunnelled backend", "10.0.0.1 }", "10.0.0.1, port: 8080 }",
     "13:40: services[web].backends[b1].port: has no effect with forwarding: ipip, which leaves "
     "the destination port as it is; leave it out"},
    {"ports with any", "protocol: tcp", "protocol: any",
     "10:5: services[web].ports: has no effect with protocol: any, which is every port; leave it "
     "out"},
    {"tcp without ports", "    ports: [80]\n", "",
     "7:5: services[web].ports: missing; allowed: ports such as 443 or ranges such as 8000-8100"},
    {"a probe of any without a port",
     "protocol: tcp\n"
     "    ports: [80]",
     "protocol: any\n"
     "    health_check: { tcp: {} }",
     "10:26: services[web].health_check.tcp.port: missing, and with protocol: any the service has "
     "none; allowed: a port"},
    {"no tunnel source", "tunnel: { source_ipv4: 192.0.2.1 }\n", "",
     "1:1: tunnel.source_ipv4: missing, and services[web].backends[b1] at 10.0.0.1 is reached by "
     "ipip; allowed: a unicast IPv4 address of this host"},
    {"no tunnel source of the family", "10.0.0.1 }", "\"2001:db8::1\" }",
     "5:9: tunnel.source_ipv6: missing, and services[web].backends[b1] at 2001:db8::1 is reached "
     "by ipip; allowed: a unicast IPv6 address of this host"},
    {"a backend that is a VIP", "10.0.0.1 }", "198.51.100.10 }",
     "13:30: services[web].backends[b1].address: found 198.51.100.10, which is a VIP; allowed: the "
     "backend's own address"},
    {"a tunnel source that is a VIP", "source_ipv4: 192.0.2.1", "source_ipv4: 198.51.100.10",
     "5:24: tunnel.source_ipv4: found 198.51.100.10, which is a VIP; allowed: an address of this "
     "host's own"},
    {"a backend that is the tunnel source", "10.0.0.1 }", "192.0.2.1 }",
     "13:30: services[web].backends[b1].address: found 192.0.2.1, which is tunnel.source_ipv4; "
     "allowed: the backend's own address"},
    {"gue and a spread alone",
     "source_ipv4: 192.0.2.1 }\n"
     "services:\n"
     "  - name: web\n"
     "    vips: [198.51.100.10]\n"
     "    protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: ipip",
     "spread_ipv4: 172.16.0.0/16 }\n"
     "services:\n"
     "  - name: web\n"
     "    vips: [198.51.100.10]\n"
     "    protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: gue",
     "5:9: tunnel.source_ipv4: missing, and services[web].backends[b1] at 10.0.0.1 is reached by "
     "gue; allowed: a unicast IPv4 address of this host"},
    {"a spread of the other family alone", "source_ipv4: 192.0.2.1", "spread_ipv6: \"100::/64\"",
     "5:9: tunnel.source_ipv4: missing, and services[web].backends[b1] at 10.0.0.1 is reached by "
     "ipip; allowed: a unicast IPv4 address of this host"},
    {"a spread with a VIP", "192.0.2.1 }", "192.0.2.1, spread_ipv4: 198.51.100.0/24 }",
     "5:48: tunnel.spread_ipv4: found 198.51.100.0/24, which has the VIP 198.51.100.10 of "
     "services[web]; allowed: a prefix of unicast addresses that nobody has"},
    {"a spread with a backend", "192.0.2.1 }", "192.0.2.1, spread_ipv4: 10.0.0.2/31 }",
     "5:48: tunnel.spread_ipv4: found 10.0.0.2/31, which has services[web].backends[b2] at "
     "10.0.0.2; allowed: a prefix of unicast addresses that nobody has"},
    {"a spread over everything", "192.0.2.1 }", "192.0.2.1, spread_ipv6: \"::/0\" }",
     "5:48: tunnel.spread_ipv6: found ::/0, which has ::, from which no packet comes; allowed: a "
     "prefix of unicast addresses that nobody has"},
    {"a multicast spread", "192.0.2.1 }", "192.0.2.1, spread_ipv4: 239.0.0.0/8 }",
     "5:48: tunnel.spread_ipv4: found 239.0.0.0/8, which is not unicast; allowed: a prefix of "
     "unicast addresses that nobody has"},
    {"nat of any beside nat of one port",
     "protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: ipip\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1 }\n"
     "      - { name: b2, address: 10.0.0.2 }\n",
     "protocol: any\n"
     "    forwarding: nat\n"
     "    backends: [{ name: b1, address: 10.0.0.1 }]\n"
     "  - name: other\n"
     "    vips: [198.51.100.11]\n"
     "    protocol: udp\n"
     "    ports: [53]\n"
     "    forwarding: nat\n"
     "    backends: [{ name: c, address: 10.0.0.1 }]\n",
     "17:36: services[other].backends[c].address: found 10.0.0.1, whose port 53 also serves "
     "services[web].backends[b1] in line 11; allowed: each address and port in one nat service, "
     "since answers are told apart by it"},
    {"nat of any with a port",
     "protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: ipip\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1 }",
     "protocol: any\n"
     "    forwarding: nat\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1, port: 8080 }",
     "12:46: services[web].backends[b1].port: found 8080, and the service has several ports; "
     "allowed: with forwarding: nat a port of its own only where the service has one, since an "
     "answer does not say which it was"},
    {"nat with a VIP prefix",
     "198.51.100.10]\n"
     "    protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: ipip",
     "198.51.100.0/24]\n"
     "    protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: nat",
     "8:12: services[web].vips[0]: found 198.51.100.0/24 with forwarding: nat; allowed: one "
     "address, since an answer does not say which it was"},
    {"nat with several VIPs",
     "[198.51.100.10]\n"
     "    protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: ipip",
     "[198.51.100.10, 198.51.100.11]\n"
     "    protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: nat",
     "8:27: services[web].vips[1]: found several VIPs with forwarding: nat; allowed: one, since an "
     "answer does not say which it was"},
    {"nat with a port behind several",
     "[80]\n"
     "    forwarding: ipip\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1 }",
     "[80, 81]\n"
     "    forwarding: nat\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1, port: 8080 }",
     "13:46: services[web].backends[b1].port: found 8080, and the service has several ports; "
     "allowed: with forwarding: nat a port of its own only where the service has one, since an "
     "answer does not say which it was"},
    {"nat between families",
     "ipip\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1 }",
     "nat\n"
     "    backends:\n"
     "      - { name: b1, address: \"2001:db8::1\" }",
     "13:30: services[web].backends[b1].address: found 2001:db8::1 behind the VIP 198.51.100.10; "
     "allowed: with forwarding: nat an address of the VIP's family"},
    {"nat with a backend of two services",
     "ipip\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1 }\n"
     "      - { name: b2, address: 10.0.0.2 }\n",
     "nat\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1, port: 8080 }\n"
     "  - name: other\n"
     "    vips: [198.51.100.11]\n"
     "    protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: nat\n"
     "    backends: [{ name: c, address: 10.0.0.1, port: 8080 }]\n",
     "19:36: services[other].backends[c].address: found 10.0.0.1, whose port 8080 also serves "
     "services[web].backends[b1] in line 13; allowed: each address and port in one nat service, "
     "since answers are told apart by it"},
    {"a file that is not there, beside another error", "services:\n",
     "access: { deny: [10.0.0.0/8], deny_files: [good.txt, sub/no.txt], allow_files: [/no] }\n"
     "colour: red\n"
     "services:\n",
     "6:54: access.deny_files[1]: cannot read sub/no.txt: No such file or directory; allowed: a "
     "regular file of at most 64 MiB\n"
     "6:81: access.allow_files[0]: cannot read /no: No such file or directory; allowed: a regular "
     "file of at most 64 MiB\n"
     "7:1: colour: unknown key; allowed: fleet, dataplane, interfaces, routing, routes, tunnel, "
     "services, access, announce or control"},
    {"lines that are no prefix", "services:\n",
     "access: { deny_files: [bad.txt] }\n"
     "services:\n",
     "bad.txt:4:3: found 192.0.2.1/24; allowed: one prefix a line, such as 192.0.2.0/24, "
     "2001:db8::/32 or an address; 192.0.2.0/24 is the network\n"
     "bad.txt:6:1: found what is no prefix; allowed: one prefix a line, such as "
     "192.0.2.0/24, 2001:db8::/32 or an address\n"
     "bad.txt:7:1: found 10.0.0.0/8 and more behind it; allowed: one prefix a line, such as "
     "192.0.2.0/24, 2001:db8::/32 or an address"},
    {"a key file that is not there",
     "protocol: tcp\n"
     "    ports: [80]\n",
     "protocol: udp\n"
     "    ports: [80]\n"
     "    quic: { configs: [{ id: 1, server_id_length: 4, nonce_length: 6, key_file: no.key }] }\n",
     "11:80: services[web].quic.configs[0].key_file: cannot read no.key: No such file or "
     "directory; allowed: a regular file of at most 64 MiB"},
    {"keys that are none",
     "protocol: tcp\n"
     "    ports: [80]\n",
     "protocol: udp\n"
     "    ports: [80]\n"
     "    quic:\n"
     "      configs:\n"
     "        - { id: 1, server_id_length: 4, nonce_length: 6, key_file: short.key }\n"
     "        - { id: 2, server_id_length: 4, nonce_length: 6, key_file: letters.key }\n"
     "        - { id: 3, server_id_length: 4, nonce_length: 6, key_file: good.key }\n",
     "short.key:1:1: found no key; allowed: 32 hexadecimal digits, an AES-128 key\n"
     "letters.key:1:1: found no key; allowed: 32 hexadecimal digits, an AES-128 key"},
    {"server ids of two lengths",
     "protocol: tcp\n"
     "    ports: [80]\n",
     "protocol: udp\n"
     "    ports: [80]\n"
     "    quic:\n"
     "      configs:\n"
     "        - { id: 1, server_id_length: 4, nonce_length: 6 }\n"
     "        - { id: 2, server_id_length: 5, nonce_length: 6 }\n",
     "14:38: services[web].quic.configs[1].server_id_length: found 5, and config 1 has 4; "
     "allowed: the same in every config, since a backend has one id"},
    {"several at once, in file order",
     "    protocol: tcp\n"
     "    ports: [80]\n"
     "    forwarding: ipip\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.1 }",
     "    protocol: sctp\n"
     "    ports: [80, 90000]\n"
     "    forwading: ipip\n"
     "    backends:\n"
     "      - { name: b1, address: 10.0.0.256, weight: 70000 }",
     "7:5: services[web].forwarding: missing; allowed: ipip, gre, gue, vxlan, direct or nat, or a "
     "mapping of one of them to its settings\n"
     "9:15: services[web].protocol: found sctp; allowed: tcp, udp or any\n"
     "10:17: services[web].ports[1]: found 90000; allowed: a port from 1 to 65535 or a range such "
     "as 8000-8100\n"
     "11:5: services[web].forwading: unknown key; allowed: name, vips, protocol, ports, "
     "forwarding, scheduler, table_size, affinity, client_prefix, health_check, min_healthy, "
     "slow_start, limits, quic, regions, default_region or backends; did you mean forwarding?\n"
     "13:30: services[web].backends[b1].address: found 10.0.0.256; allowed: a unicast address such "
     "as 192.0.2.1 or \"2001:db8::1\"\n"
     "13:50: services[web].backends[b1].weight: found 70000; allowed: a whole number from 0 to "
     "65535"},
};

class ConfigErrors : public testing::TestWithParam<Row> {};

TEST_P(ConfigErrors, AreExact) {
  const Row& row = GetParam();
  std::string text = kGood;
  const size_t at = text.find(row.from);
  ASSERT_NE(at, std::string::npos) << row.from;
  text.replace(at, row.from.size(), row.to);

  const absl::StatusOr<LoadedConfig> loaded =
      LoadConfig("file.yaml", absl::string_view(text.data(), text.size()), TestFiles(kFiles));
  ASSERT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << text;
  const std::string lines = absl::StrReplaceAll(loaded.status().message(), {{"file.yaml:", ""}});
  EXPECT_EQ(lines, row.errors) << text;
}

INSTANTIATE_TEST_SUITE_P(Rows, ConfigErrors, testing::ValuesIn(kRows), [](const auto& info) {
  std::string name = info.param.what;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

TEST(ConfigErrors, OfAFileFullOfThemTheFirst) {
  std::string text = kGood;
  text.replace(text.find("services:"), 0, "access: { deny_files: [many.txt] }\n");
  const absl::StatusOr<LoadedConfig> loaded = LoadConfig("file.yaml", text, TestFiles(kFiles));
  const std::vector<std::string> lines = absl::StrSplit(loaded.status().message(), '\n');
  ASSERT_EQ(lines.size(), 11u);
  EXPECT_TRUE(absl::StartsWith(lines[9], "many.txt:10:1: found what is no prefix; ")) << lines[9];
  EXPECT_EQ(lines[10], "many.txt:10:1: … and 990 more lines of this file that are no prefix");
}

TEST(ConfigErrors, TheGoodFileHasNone) {
  const absl::StatusOr<LoadedConfig> loaded = LoadConfig("file.yaml", kGood, TestFiles(kFiles));
  EXPECT_TRUE(loaded.ok()) << loaded.status();
}

}  // namespace
}  // namespace guideway
