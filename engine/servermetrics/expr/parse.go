package expr

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MaxSize bounds an expression's text; its depth is bounded too, so that no text can use up the stack.
const (
	MaxSize  = 4096
	maxDepth = 32
)

// Parse reads an expression. Errors say what was expected and where, counting characters from 1.
func Parse(text string) (*Expr, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("has %d bytes, may have %d", len(text), MaxSize)
	}
	p := parser{text: text}
	root, err := p.sum(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.text) {
		return nil, p.errorf("expected +, -, * or /")
	}
	if len(p.names) == 0 {
		return nil, fmt.Errorf("names no metric")
	}
	return &Expr{root, p.names}, nil
}

type parser struct {
	text  string
	at    int
	names []string
}

func (p *parser) errorf(format string, args ...any) error {
	found := "the end"
	if p.at < len(p.text) {
		found = strconv.Quote(p.text[p.at:min(p.at+12, len(p.text))])
	}
	return fmt.Errorf("%s at character %d, found %s", fmt.Sprintf(format, args...), p.at+1, found)
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// take moves past one of these characters, if it comes next, and tells which; 0 = none of them.
func (p *parser) take(any string) byte {
	p.space()
	if p.at < len(p.text) && strings.IndexByte(any, p.text[p.at]) >= 0 {
		p.at++
		return p.text[p.at-1]
	}
	return 0
}

func (p *parser) sum(depth int) (node, error) { return p.chain(depth, "+-", p.product) }

func (p *parser) product(depth int) (node, error) { return p.chain(depth, "*/", p.factor) }

func (p *parser) chain(depth int, ops string, operand func(int) (node, error)) (node, error) {
	a, err := operand(depth)
	for err == nil {
		op := p.take(ops)
		if op == 0 {
			return a, nil
		}
		var b node
		if b, err = operand(depth); err == nil {
			a = &binary{op, a, b}
		}
	}
	return nil, err
}

func (p *parser) factor(depth int) (node, error) {
	if depth > maxDepth {
		return nil, p.errorf("nested more than %d deep", maxDepth)
	}
	if p.take("-") != 0 {
		n, err := p.factor(depth + 1)
		return &binary{'*', number(-1), n}, err
	}
	if p.take("(") != 0 {
		n, err := p.sum(depth + 1)
		if err == nil && p.take(")") == 0 {
			err = p.errorf("expected )")
		}
		return n, err
	}
	p.space()
	if p.at < len(p.text) && (digit(p.text[p.at]) || p.text[p.at] == '.') {
		return p.number()
	}
	word := p.word(true)
	switch word {
	case "":
		return nil, p.errorf("expected a number, a metric's name or (")
	case "rate", "max", "min", "avg", "sum":
		if p.take("(") == 0 {
			return p.selector(word, "sum")
		}
		of := word
		if word == "rate" {
			of = "sum"
		}
		p.space()
		s, err := p.selector(p.word(true), of)
		if err != nil {
			return nil, err
		}
		if p.take(")") == 0 {
			return nil, p.errorf("expected ): a function takes one metric, without a range")
		}
		if word == "rate" {
			return &rate{s}, nil
		}
		return s, nil
	}
	return p.selector(word, "sum")
}

func (p *parser) number() (node, error) {
	from := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		exponent := (c == '+' || c == '-') && (p.text[p.at-1] == 'e' || p.text[p.at-1] == 'E')
		if !digit(c) && c != '.' && c != 'e' && c != 'E' && !exponent {
			break
		}
		p.at++
	}
	x, err := strconv.ParseFloat(p.text[from:p.at], 64)
	if err != nil {
		p.at = from
		return nil, p.errorf("expected a number")
	}
	return number(x), nil
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// word reads a name; those of metrics may have colons. Empty when none comes next.
func (p *parser) word(metric bool) string {
	from := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || metric && c == ':'
		if !letter && (p.at == from || !digit(c)) {
			break
		}
		p.at++
	}
	return p.text[from:p.at]
}

func (p *parser) selector(name, of string) (*selector, error) {
	if name == "" {
		return nil, p.errorf("expected a metric's name")
	}
	s := &selector{name: name, of: of}
	if !slices.Contains(p.names, name) {
		p.names = append(p.names, name)
	}
	if p.take("{") == 0 {
		return s, nil
	}
	for p.take("}") == 0 {
		m, err := p.matcher()
		if err != nil {
			return nil, err
		}
		s.matchers = append(s.matchers, m)
		if p.take(",") == 0 {
			if p.take("}") == 0 {
				return nil, p.errorf("expected , or }")
			}
			break
		}
	}
	return s, nil
}

func (p *parser) matcher() (m matcher, err error) {
	p.space()
	if m.label = p.word(false); m.label == "" {
		return m, p.errorf("expected a label's name")
	}
	p.space()
	op := ""
	for _, o := range [...]string{"=~", "!~", "!=", "="} {
		if strings.HasPrefix(p.text[p.at:], o) {
			op = o
			break
		}
	}
	if op == "" {
		return m, p.errorf("expected =, !=, =~ or !~")
	}
	p.at += len(op)
	p.space()
	m.negated = op[0] == '!'
	if m.value, err = p.quoted(); err != nil {
		return m, err
	}
	if strings.HasSuffix(op, "~") {
		if m.pattern, err = regexp.Compile("^(?:" + m.value + ")$"); err != nil {
			return m, fmt.Errorf("%q is no regular expression: %w", m.value, err)
		}
	}
	return m, nil
}

// quoted reads a text in double or single quotes.
func (p *parser) quoted() (string, error) {
	if p.at >= len(p.text) || p.text[p.at] != '"' && p.text[p.at] != '\'' {
		return "", p.errorf("expected a text in quotes")
	}
	end, from := p.text[p.at], p.at
	p.at++
	var b strings.Builder
	for p.at < len(p.text) && p.text[p.at] != end {
		c, _, tail, err := strconv.UnquoteChar(p.text[p.at:], end)
		if err != nil {
			return "", p.errorf("expected a character or an escape such as \\\\")
		}
		b.WriteRune(c)
		p.at = len(p.text) - len(tail)
	}
	if p.at >= len(p.text) {
		p.at = from
		return "", p.errorf("a text without an end")
	}
	p.at++
	return b.String(), nil
}
