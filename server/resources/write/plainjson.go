package write

import (
	"math"
	"strconv"
)

// plainJSON reads what is JSON and YAML alike and so needs no YAML parser, as applied configurations that programs send: an
// object of plain ASCII, with whole numbers, and no name twice. It returns false for everything else, good or bad.
func plainJSON(data []byte) (map[string]any, bool) {
	p := plain{data: data}
	p.space()
	if p.peek() != '{' {
		return nil, false
	}
	v, ok := p.value(0)
	if p.space(); !ok || p.at != len(data) {
		return nil, false
	}
	return v.(map[string]any), true
}

const (
	deepest    = 64  // of objects and lists in one another
	longestKey = 256 // YAML has a limit for names
)

type plain struct {
	data []byte
	at   int
}

func (p *plain) peek() byte {
	if p.at < len(p.data) {
		return p.data[p.at]
	}
	return 0
}

func (p *plain) space() {
	for p.peek() == ' ' || p.peek() == '\n' {
		p.at++
	}
}

// next tells whether c comes next, and passes it.
func (p *plain) next(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.at++
	return true
}

func (p *plain) value(depth int) (any, bool) {
	switch c := p.peek(); {
	case depth > deepest:
		return nil, false
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.list(depth)
	case c == '"':
		return p.text()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for word, value := range words {
		if end := p.at + len(word); end <= len(p.data) && string(p.data[p.at:end]) == word {
			p.at = end
			return value, true
		}
	}
	return nil, false
}

var words = map[string]any{"true": true, "false": false, "null": nil}

func (p *plain) object(depth int) (any, bool) {
	p.at++
	out := map[string]any{}
	if p.space(); p.next('}') {
		return out, true
	}
	for {
		p.space()
		if p.peek() != '"' {
			return nil, false
		}
		key, ok := p.text()
		if !ok || key == "" || key == "<<" || len(key) > longestKey || !p.next(':') {
			return nil, false
		}
		if _, twice := out[key]; twice {
			return nil, false
		}
		p.space()
		value, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		out[key] = value
		if p.space(); p.next('}') {
			return out, true
		}
		if !p.next(',') {
			return nil, false
		}
	}
}

func (p *plain) list(depth int) (any, bool) {
	p.at++
	out := []any{}
	if p.space(); p.next(']') {
		return out, true
	}
	for {
		p.space()
		value, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		out = append(out, value)
		if p.space(); p.next(']') {
			return out, true
		}
		if !p.next(',') {
			return nil, false
		}
	}
}

// text reads a string, which may have the escapes that JSON and YAML share.
func (p *plain) text() (string, bool) {
	p.at++
	begin := p.at
	for ; p.at < len(p.data); p.at++ {
		switch c := p.data[p.at]; {
		case c == '"':
			p.at++
			return string(p.data[begin : p.at-1]), true
		case c == '\\':
			return p.escaped(append(make([]byte, 0, 2*(p.at-begin)+16), p.data[begin:p.at]...))
		case c < ' ' || c > '~':
			return "", false
		}
	}
	return "", false
}

// escaped reads the rest of a string from its first escape on.
func (p *plain) escaped(out []byte) (string, bool) {
	for ; p.at < len(p.data); p.at++ {
		c := p.data[p.at]
		switch {
		case c == '"':
			p.at++
			return string(out), true
		case c < ' ' || c > '~':
			return "", false
		case c == '\\':
			p.at++
			switch c = p.peek(); c {
			case '"', '\\':
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case 'u':
				var ok bool
				if c, ok = p.code(); !ok {
					return "", false
				}
			default:
				return "", false
			}
		}
		out = append(out, c)
	}
	return "", false
}

// code reads the digits of an ASCII character, up to the last of them.
func (p *plain) code() (byte, bool) {
	const digits = 4
	if p.at+digits >= len(p.data) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.data[p.at+1:p.at+1+digits]), 16, 16)
	if err != nil || n < ' ' || n > '~' {
		return 0, false
	}
	p.at += digits
	return byte(n), true
}

// number reads a whole number as JSON and YAML write it.
func (p *plain) number() (any, bool) {
	negative := p.next('-')
	first := p.peek()
	var n uint64
	digits := 0
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		if n > math.MaxInt64/10-1 {
			return nil, false
		}
		n, digits = n*10+uint64(c-'0'), digits+1
		p.at++
	}
	switch c := p.peek(); {
	case digits == 0 || first == '0' && (digits > 1 || negative):
		return nil, false
	case c != ',' && c != '}' && c != ']' && c != ' ' && c != '\n':
		return nil, false
	}
	if negative {
		return -int64(n), true
	}
	return int64(n), true
}
