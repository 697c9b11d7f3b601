package config

import (
	"net"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Lookup finds one environment variable, as os.LookupEnv does.
type Lookup func(name string) (value string, set bool)

// Conventional is what platforms set by custom, beside the WEIR_ names, which win over it.
func Conventional() map[string]string {
	return map[string]string{
		"DB_HOST": "database.host", "DB_PORT": "database.port", "DB_USER": "database.user",
		"DB_PASSWORD": "database.password", "DB_NAME": "database.name",
		"PROMETHEUS_URL": "prometheus_url", "APP_PORT": "admin.listen",
	}
}

// overlay writes every variable that is set into the node tree, so that the values from the environment go through the
// same reading and checking as those of the file. A variable set to nothing counts as not set: container platforms
// pass empty ones for what the user left out.
func (d *decoder) overlay(root *yaml.Node, env Lookup) {
	conventional := Conventional()
	order := make([]string, 0, len(conventional))
	for name := range conventional {
		order = append(order, name)
	}
	slices.Sort(order)
	for _, name := range order {
		s, ok := d.lookup(env, name)
		if !ok {
			continue
		}
		if serviceLink(s) {
			d.warnf(place{file: Environment, key: name}, "looks like a Kubernetes service link, not a port: ignored; use %s", variable(conventional[name]))
			continue
		}
		if name == "APP_PORT" {
			s = d.withPort(root, s)
		}
		d.put(root, conventional[name], name, s)
	}
	if s, ok := d.lookup(env, "WEIR_SOCKET"); ok {
		d.put(root, "socket.path", "WEIR_SOCKET", s)
	}
	for _, k := range Keys() {
		if k.Variable == "" {
			continue
		}
		if s, ok := d.lookup(env, k.Variable); ok {
			d.put(root, k.Path, k.Variable, s)
		}
	}
}

func (d *decoder) lookup(env Lookup, name string) (string, bool) {
	s, ok := env(name)
	s = strings.TrimSpace(s)
	return s, ok && s != ""
}

// withPort keeps the host of admin.listen and takes the port from APP_PORT.
func (d *decoder) withPort(root *yaml.Node, port string) string {
	listen := Default().Admin.Listen
	if n := get(get(root, "admin"), "listen"); n != nil && n.Kind == yaml.ScalarNode {
		listen = n.Value
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return listen // wrong in the file, and told for the file
	}
	return net.JoinHostPort(host, port)
}

func get(n *yaml.Node, key string) *yaml.Node {
	if n == nil {
		return nil
	}
	n = resolve(n)
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

// put sets one key, by its path, to the value of a variable, making the mappings on the way. What is wrong in the file
// (a text where a mapping should be) is left for the decoder to tell.
func (d *decoder) put(root *yaml.Node, path, name, s string) {
	at := root
	keys := strings.Split(path, ".")
	for i, key := range keys {
		if i == len(keys)-1 {
			n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
			d.origin[n] = name
			*slot(at, key) = n
			return
		}
		place := slot(at, key)
		next := *place
		switch {
		case next.Kind == yaml.AliasNode:
			next = resolve(next)
			fallthrough // a mapping shared by an anchor must not change for its other users
		case next.Kind == yaml.MappingNode:
			next = &yaml.Node{Kind: next.Kind, Tag: next.Tag, Line: next.Line, Content: slices.Clone(next.Content), Value: next.Value}
		case next.Kind == 0, isNull(next), key == "check", key == "affinity":
			next = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: next.Line}
		case key == "socket" && next.Kind == yaml.ScalarNode: // the short form: a plain path
			next = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: next.Line, Content: []*yaml.Node{
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: "path", Line: next.Line}, next,
			}}
		}
		if next.Kind != yaml.MappingNode {
			return
		}
		*place = next
		at = next
	}
}

// slot finds where a mapping holds a key's value, or makes the place.
func slot(m *yaml.Node, key string) **yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return &m.Content[i+1]
		}
	}
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Line: m.Line}, &yaml.Node{})
	return &m.Content[len(m.Content)-1]
}

var (
	linkValue = regexp.MustCompile(`^(tcp|udp|sctp)://`)
	linkName  = regexp.MustCompile(`^WEIR(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)$`)
)

// serviceLink tells the values that Kubernetes sets for every service of a namespace: a service named "db" makes
// DB_PORT=tcp://10.0.0.1:5432.
func serviceLink(value string) bool { return linkValue.MatchString(value) }

// UnknownVariables warns of variables that begin with WEIR_ and that nothing reads, most often typing errors. environ is
// what os.Environ gives. Kubernetes' own variables for services named weir are passed over.
func UnknownVariables(environ []string) []Warning {
	known := []string{"WEIR_SOCKET", "WEIR_CONFIG", "WEIR_ONNXRUNTIME", "WEIR_CACHE", "WEIR_AFFINITY_SECRET_FILE"}
	for _, k := range Keys() {
		if k.Variable != "" {
			known = append(known, k.Variable)
		}
	}
	var ws []Warning
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "WEIR_") || slices.Contains(known, name) || linkName.MatchString(name) {
			continue
		}
		w := Warning{File: Environment, Key: name, Message: "no setting has this variable: it is ignored"}
		if s := Nearest(name, known); s != "" {
			w.Message += "; did you mean " + s + "?"
		} else if strings.HasPrefix(name, "WEIR_POOLS") {
			w.Message += "; pools are set in the file, or all at once by WEIR_DEFAULTS_..."
		}
		ws = append(ws, w)
	}
	slices.SortFunc(ws, func(a, b Warning) int { return strings.Compare(a.Key, b.Key) })
	return ws
}
