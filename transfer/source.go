package transfer

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of what a source may answer, and of how long it may take.
const (
	maxAnswer   = 512 << 20 // bytes in one text: the largest value
	maxElements = 1 << 20
	maxDepth    = 8

	dialTimeout = 10 * time.Second
	idleTimeout = 60 * time.Second // without a byte from the source, of which a replica hears at least every 10 s
)

// A Source is where a server is that data come from: redis://[user:password@]host[:port][/db], rediss:// with TLS.
type Source struct {
	Network  string // tcp or unix; empty for tcp
	Address  string
	User     string
	Password string
	DB       int         // -1 for all
	TLS      *tls.Config // nil for none
}

// ParseSource reads the URL of a source.
func ParseSource(text string) (*Source, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("this is no URL such as redis://user:password@host:6379") // url's own error would show the password
	}
	s := &Source{Address: u.Host, User: u.User.Username(), DB: -1}
	s.Password, _ = u.User.Password()
	switch u.Scheme {
	case "redis":
	case "rediss":
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	default:
		return nil, fmt.Errorf("a source begins with redis:// or rediss://, not %q", u.Scheme+"://")
	}
	if u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("a source is like redis://user:password@host:6379/0")
	}
	if u.Port() == "" {
		s.Address = net.JoinHostPort(u.Hostname(), "6379")
	}
	if db := strings.Trim(u.Path, "/"); db != "" {
		if s.DB, err = strconv.Atoi(db); err != nil || s.DB < 0 {
			return nil, fmt.Errorf("the path of a source is the number of a database, not %.40q", db)
		}
	}
	return s, nil
}

// A ServerError is an answer that says no.
type ServerError string

func (e ServerError) Error() string { return string(e) }

// A conn is a connection to a source.
type conn struct {
	net.Conn
	r  *bufio.Reader
	mu sync.Mutex // of writing
}

// dial connects and logs in. The connection ends with ctx.
func (s *Source) dial(ctx context.Context) (*conn, error) {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	nc, err := d.DialContext(ctx, cmp.Or(s.Network, "tcp"), s.Address)
	if err != nil {
		return nil, err
	}
	if s.TLS != nil {
		secure := tls.Client(nc, s.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, err
		}
		nc = secure
	}
	c := &conn{Conn: nc}
	c.r = bufio.NewReaderSize(patient{nc}, 64<<10)
	context.AfterFunc(ctx, func() { _ = nc.Close() })
	switch {
	case s.User != "" && s.Password != "":
		_, err = c.do("AUTH", s.User, s.Password)
	case s.Password != "":
		_, err = c.do("AUTH", s.Password)
	case s.User != "": // redis://password@host, as some write it
		_, err = c.do("AUTH", s.User)
	}
	if err == nil {
		_, err = c.do("PING")
	}
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("%s: %w", s.Address, err)
	}
	return c, nil
}

// A patient reader gives up when nothing comes for idleTimeout.
type patient struct{ net.Conn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// send sends commands.
func (c *conn) send(commands ...Command) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b []byte
	for _, args := range commands {
		b = appendCommand(b, args)
	}
	if err := c.SetWriteDeadline(time.Now().Add(idleTimeout)); err != nil {
		return err
	}
	_, err := c.Write(b)
	return err
}

// appendCommand writes a command as clients send it.
func appendCommand(b []byte, c Command) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(c)), 10), "\r\n"...)
	for _, a := range c {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(a)), 10), "\r\n"...)
		b = append(append(b, a...), "\r\n"...)
	}
	return b
}

// AppendCommands writes commands as clients send them.
func AppendCommands(b []byte, commands ...Command) []byte {
	for _, c := range commands {
		b = appendCommand(b, c)
	}
	return b
}

// do sends a command and returns what it answers.
func (c *conn) do(args ...string) (any, error) {
	if err := c.send(command(args...)); err != nil {
		return nil, err
	}
	return c.answer()
}

// answer reads an answer: []byte, int64, []any, nil; an error that is a ServerError is an answer too.
func (c *conn) answer() (any, error) { return c.read(0) }

func (c *conn) line() (string, error) {
	line, err := c.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		err = errors.New("the source answers with a line that is too long")
	}
	return strings.TrimRight(string(line), "\r\n"), unexpected(err)
}

func (c *conn) read(depth int) (any, error) {
	line, err := "", error(nil)
	for line == "" { // an empty one is a sign of life, while PSYNC is thought about
		if line, err = c.line(); err != nil {
			return nil, err
		}
	}
	rest := line[1:]
	switch line[0] {
	case '+':
		return []byte(rest), nil
	case '-':
		return nil, ServerError(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the source answers %.40q", line)
	}
	switch {
	case line[0] == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case line[0] == '$' && n <= maxAnswer:
		read := commandReader{r: c.r}
		b, err := read.bytes(n + 2)
		if err != nil {
			return nil, err
		}
		return b[:n:n], nil
	case line[0] == '*' && n <= maxElements && depth < maxDepth:
		var list []any
		for range n {
			v, err := c.read(depth + 1)
			if e := ServerError(""); err != nil && !errors.As(err, &e) {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	return nil, fmt.Errorf("the source answers %.40q", line)
}

// info reads a field of INFO.
func (c *conn) info(section, field string) (string, error) {
	v, err := c.do("INFO", section)
	if err != nil {
		return "", err
	}
	text, _ := v.([]byte)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == field {
			return value, nil
		}
	}
	return "", nil
}

var _ io.Reader = patient{}
