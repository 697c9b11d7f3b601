package check

import (
	"slices"
	"strings"

	"github.com/weirlb/weir/engine/config/nginxconf"
)

// literals are the values that the configuration gives variables, by the variable's name. Which one a request has shows only at run time, so that all of
// them are possible.
type literals map[string][]string

func (l literals) add(name, value string) {
	name, ok := strings.CutPrefix(name, "$")
	if name = strings.ToLower(name); ok && !slices.Contains(l[name], value) {
		l[name] = append(slices.Clip(l[name]), value)
	}
}

// with gives these and those that `set` in a block makes: of a server all, since a request goes from one of its locations to another.
func (l literals) with(block []*nginxconf.Directive) literals {
	all := make(literals, len(l))
	for name, values := range l {
		all[name] = values
	}
	all.sets(block)
	return all
}

func (l literals) sets(block []*nginxconf.Directive) {
	for _, d := range block {
		if d.Name == "set" && len(d.Args) == 2 {
			l.add(d.Args[0], d.Args[1])
		}
		l.sets(d.Block)
	}
}

// given are the values that the maps of an http block and the like give. Their parameters (hostnames, ranges) have no value, and those of
// geo that have one (proxy, delete) name no upstream.
func given(http []*nginxconf.Directive) literals {
	l := literals{}
	for _, d := range http {
		if d.Name != "map" && d.Name != "geo" && d.Name != "split_clients" || len(d.Args) == 0 {
			continue
		}
		for _, entry := range d.Block {
			if len(entry.Args) == 1 && entry.Name != "include" {
				l.add(d.Args[len(d.Args)-1], entry.Args[0])
			}
		}
	}
	return l
}

// destination is an upstream that a pass may go to, and the address that names it.
type destination struct {
	*upstream
	address string
	port    string // that stands behind the upstream's name, which has none; "" = as it should be
}

// reaches gives the upstream that an address names, and a port behind that name.
func reaches(address string, upstreams map[string]*upstream) (u *upstream, port string) {
	name := target(address)
	if u = upstreams[name]; u == nil {
		if name, port, _ = strings.Cut(name, ":"); port != "" {
			u = upstreams[name]
		}
	}
	return u, port
}

// port tells of a pass to an upstream's name with a port. By a variable NGINX takes that for another host, which there may be.
func (c *checker) port(d *nginxconf.Directive, to *destination) {
	if strings.Contains(d.Args[0], "$") {
		c.warnf(d.File, d.Line, d.Name, "names upstream %s with port %s: as that comes from a variable, NGINX looks for a host %s by a resolver and leaves the upstream aside; if the upstream is meant, leave the port out", to.name, to.port, to.name)
		return
	}
	c.errorf(d.File, d.Line, d.Name, "names upstream %s with port %s, which NGINX refuses: leave the port out, the pool's peers have their own", to.name, to.port)
}

// destinations gives those of Weir that a pass may go to, in the order in which they are found.
func (l literals) destinations(to string, upstreams map[string]*upstream) []destination {
	// Variables made of variables would multiply: a configuration means few.
	const most = 1000
	var found []destination
	queue, seen := []string{to}, map[string]bool{to: true}
	for i := 0; i < len(queue); i++ {
		if u, port := reaches(queue[i], upstreams); u != nil {
			found = append(found, destination{u, queue[i], port}) // no address is there twice
			continue
		}
		for _, at := range variable.FindAllStringSubmatchIndex(queue[i], -1) {
			whole := queue[i][at[0]:at[1]]
			values := l[strings.ToLower(strings.Trim(whole, "${}"))]
			for _, value := range values {
				if next := queue[i][:at[0]] + value + queue[i][at[1]:]; !seen[next] && len(next) < 1000 && len(queue) < most {
					seen[next] = true
					queue = append(queue, next)
				}
			}
			if len(values) > 0 {
				break // what stands behind it is replaced in what was made
			}
		}
	}
	return found
}
