-- What every script of the store begins with: what lies at a key, and how long it may.
-- Returns nothing: these are functions.

-- The field that holds what is no field: "incarnation version created size ttl marks",
-- by spaces; created and ttl in ms, ttl "-" where the session has none of its own. The
-- marks are of the commits of the last minute, at most 256, newest first: a commit's time
-- in seconds, as 8 hex digits, and its nonce. By them a commit that is sent again is
-- known. No field's name is this byte: it is not UTF-8.
local META = '\255'

local function count(text)
  return text and #text < 16 and string.find(text, '^%d+$') and tonumber(text)
end

-- Returns a kind: alive, absent, destroyed, moved or foreign (not ours, or damaged: it is
--   left as it is), and of a record that is alive what META holds, of one that is moved
--   its key now, and until when (ms) the old one may be read.
local function look_at(key)
  local meta = redis.pcall('HGET', key, META)
  if type(meta) == 'string' then
    local incarnation, version, created, size, ttl, marks =
      string.match(meta, '^(%S+) (%S+) (%S+) (%S+) (%S+) (.+)$')
    local own = count(ttl)
    version, created, size = count(version), count(created), count(size)
    if not (version and created and size and (own or ttl == '-')) then return 'foreign' end
    return 'alive', {incarnation = incarnation, version = version, created = created,
      size = size, ttl = own or nil, marks = marks}
  end
  local held = redis.call('TYPE', key).ok
  if held == 'none' then return 'absent' end
  if held ~= 'string' then return 'foreign' end
  local mark = redis.call('GET', key)
  if mark == 'destroyed' then return mark end
  local till, to = string.match(mark, '^moved (%d+) (.+)$')
  if not to then return 'foreign' end
  return 'moved', {key = to, till = tonumber(till)}
end

local function packed(meta)
  return string.format('%s %.0f %.0f %.0f %s %s', meta.incarnation, meta.version,
    meta.created, meta.size, meta.ttl and string.format('%.0f', meta.ttl) or '-',
    meta.marks)
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Returns the marks, with another before them, without those that are too old or too many.
local function marked(nonce, marks)
  local now, size = math.floor(now_ms() / 1000), 8 + #nonce
  local made = string.format('%08x', now) .. nonce
  local newest, oldest = 1, #marks - size + 1
  while oldest >= newest
    and (tonumber(string.sub(marks, oldest, oldest + 7), 16) < now - 60
      or oldest > 255 * (size + 1)) do
    oldest = oldest - size - 1
  end
  if oldest < newest then return made end
  return made .. ' ' .. string.sub(marks, 1, oldest + size - 1)
end

-- Returns how many commits came after the one of this nonce; nil if it is not known.
local function later_than(nonce, marks)
  local at = string.find(marks, nonce, 1, true)
  return at and math.floor((at - 1) / (9 + #nonce))
end

-- Returns for how many ms a record may still lie: its ttl, within its max_lifetime.
local function left_for(ttl, created, max_lifetime)
  if max_lifetime == 0 then return ttl end
  return math.min(ttl, created + max_lifetime - now_ms())
end

-- Calls act with a table's items from one place to another, so many at a time as Lua's
-- stack bears.
local function in_parts(items, from, to, act)
  for first = from, to, 1000 do
    act(unpack(items, first, math.min(first + 999, to)))
  end
end
