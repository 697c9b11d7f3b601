package config

import (
	"strings"
	"testing"
)

func TestASplitSaysWhatIsWrongAndWhere(t *testing.T) {
	const peers = "  peers: ['10.0.0.1:80', {address: '10.0.0.2:80', group: canary}]\n"
	for text, want := range map[string]string{
		"  split: {share: 0.1}\n" + peers:                                                               "needs the name of a group",
		"  split: {group: canary, share: 2}\n" + peers:                                                  "from 0 to 1",
		"  split: {group: 'a b'}\n" + peers:                                                             "at most 64 of",
		"  split: {group: canary, key: user}\n" + peers:                                                 "must have a variable of NGINX",
		"  split: {group: canary, header: 'X Canary: yes'}\n" + peers:                                   "must be the name of a header",
		"  split: {group: canary, header: \"X: \\u00e4\"}\n" + peers:                                    "printable ASCII",
		"  split: yes\n" + peers:                                                                        `or "off"`,
		"  affinity: {by: hash, key: $arg_u}\n  split: {group: canary}\n" + peers:                       "does not go with affinity by hash",
		"  peers: [{address: '10.0.0.2:80', group: 'a b'}]\n":                                           "pools[0].peers[0].group",
		"  dns: {name: a.b, port: 1, group: 'a b'}\n":                                                   "pools[0].dns.group",
		"  split: {group: canary, share: 0.1}\n  dns: {name: a.b, port: 1, group: canary}\n":            "all peers of pool",
		"  split: {group: other, share: 0.1}\n" + peers:                                                 "no peer of pool \"p\" is in group \"other\"",
		"  split: {group: canary, share: 0.1}\n  peers_file: /x\n  peers: ['10.0.0.1:80']\n":            "",
		"  split: {group: canary, share: 0.1, header: X-Canary, key: \"$cookie_id\"}\n" + peers:         "",
		"  split: off\n" + peers:                                                                        "",
		"  shadow_of: p\n" + peers:                                                                      "cannot be its own shadow",
		"  shadow_of: q\n" + peers:                                                                      "there is no pool \"q\"",
		"  shadow_of: live\n" + peers + "- {name: live, peers: ['10.0.0.3:80']}\n":                      "retry: {tries: 1}",
		"  shadow_of: live\n  retry: {tries: 1}\n" + peers + "- {name: live, peers: ['10.0.0.3:80']}\n": "",
	} {
		_, warnings, err := Parse("f", []byte("pools:\n- name: p\n"+text), nil)
		var said []string
		for _, w := range warnings {
			said = append(said, w.String())
		}
		if err != nil {
			said = append(said, err.Error())
		}
		if got := strings.Join(said, "\n"); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s got %q, want %q", text, got, want)
		}
	}
}

func TestTheFileOfPeersKnowsGroups(t *testing.T) {
	p := Peer{}
	if err := p.words([]string{"group=canary", "weight=2"}); err != nil || p.Group != "canary" {
		t.Errorf("%+v, %v", p, err)
	}
	if err := p.words([]string{"group=a,b"}); err == nil {
		t.Error("a group with a comma was taken")
	}
}
