package config

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAnAddressHasOneCanonicalForm(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1:8080":              "10.0.0.1:8080",
		"10.0.0.1:08080":             "10.0.0.1:8080",
		"[::1]:9001":                 "[::1]:9001",
		"[0:0:0:0:0:0:0:1]:9001":     "[::1]:9001",
		"[FD00::A]:1":                "[fd00::a]:1",
		"[2001:db8:0:0:1:0:0:1]:443": "[2001:db8::1:0:0:1]:443",
		"[::ffff:10.0.0.1]:80":       "10.0.0.1:80",
		"127.0.0.1:65535":            "127.0.0.1:65535",
		"unix:/run/app.sock":         "unix:/run/app.sock",
		"unix://run///app.sock":      "unix:/run/app.sock",
		"unix:/./run/././app.sock":   "unix:/run/app.sock",
		"unix:/run/./../x/.a/b.":     "unix:/run/../x/.a/b.",
	} {
		got, err := ParseAddress(in)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestAWrongAddressIsToldTheRightForm(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "must be an address and a port",
		"10.0.0.1":                          "write 10.0.0.1:80 or the port",
		"10.0.0.1:":                         `the port must be a number from 1 to 65535, is ""`,
		"10.0.0.1:0":                        "the port must be a number from 1 to 65535, is 0",
		"10.0.0.1:65536":                    `the port must be a number from 1 to 65535, is "65536"`,
		"10.0.0.1:http":                     `the port must be a number from 1 to 65535, is "http"`,
		"10.0.0.1:-1":                       `the port must be a number from 1 to 65535, is "-1"`,
		"10.0.0.256:80":                     "must be an address and a port",
		"10.0.0.01:80":                      "must be an address and a port",
		"::1:9001":                          "an IPv6 address needs brackets: write [::1]:9001",
		"fd00::a:8080":                      "an IPv6 address needs brackets: write [fd00::a]:8080",
		"fd00:1:2:3:4:5:6:7:8080":           "an IPv6 address needs brackets: write [fd00:1:2:3:4:5:6:7]:8080",
		"::1":                               "needs brackets and a port: write [::1]:80",
		"2001:db8::1":                       "needs brackets and a port: write [2001:db8::1]:80",
		"[::1]":                             "the port is missing: write [::1]:80",
		"[fd00::8080]":                      "the port is missing: write [fd00::8080]:80",
		"[fe80::1%eth0]:80":                 "zone",
		"0.0.0.0:80":                        "every address of a host",
		"[::]:80":                           "every address of a host",
		"224.0.0.1:80":                      "multicast",
		"255.255.255.255:80":                "broadcast",
		"[::ffff:0.0.0.0]:80":               "means every address",
		"localhost:80":                      "names go under dns",
		"app-1.internal:80":                 "names go under dns",
		"app.internal":                      "names go under dns",
		"http://10.0.0.1:80/x":              `no scheme or path: write "10.0.0.1:80"`,
		"10.0.0.1:80/x":                     "the port must be",
		"10.0.0.1:80 10.0.0.2:80":           "must be",
		"unix:run/app.sock":                 "needs its whole path",
		"unix:":                             "needs its whole path",
		"unix:/a b":                         "byte 2 is 0x20",
		"unix:/a;b":                         "byte 2 is 0x3b",
		"unix:/a\x00":                       "byte 2 is 0x00",
		"unix:/" + strings.Repeat("x", 200): "may have 107 bytes, has 201",
		"\x00\xff:80":                       "must be",
	} {
		got, err := ParseAddress(in)
		if err == nil || got != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %q, %v; want an error with %q", in, got, err, want)
		}
	}
}

func TestACanonicalAddressReadsAsItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ip netip.Addr
		if rapid.Bool().Draw(t, "v6") {
			ip = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip")))
		} else {
			ip = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip")))
		}
		in := netip.AddrPortFrom(ip, uint16(rapid.IntRange(1, 65535).Draw(t, "port"))).String()
		a, err := ParseAddress(in)
		if err != nil {
			if ip.IsUnspecified() || ip.IsMulticast() {
				return
			}
			t.Fatalf("%s: %v", in, err)
		}
		if b, err := ParseAddress(a); err != nil || b != a {
			t.Fatalf("%s reads as %s (%v)", a, b, err)
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"10.0.0.1:80", "[::1]:9001", "unix:/x", "::1:9001", "localhost:80", "http://a", "[fe80::1%eth0]:80", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if b, err := ParseAddress(a); err != nil || a != b {
			t.Fatalf("%q gives %q, which gives %q, %v", s, a, b, err)
		}
		if len(a) > 256 || strings.ContainsAny(a, " ,;\"\\\x00\n") {
			t.Fatalf("%q gives the unsafe %q", s, a)
		}
	})
}
