-- What every script of an owner's index begins with, behind record.lua: its entries.
-- Returns nothing: these are functions.

-- The index is a hash. A field is a session's slot, which a rotation leaves as it is; it
-- holds "state until bound created used names note", by spaces: the state is 1 once the
-- session is to be destroyed, 2 while it is being bound, else 0; until when the session may
-- live, since when it is the owner's, its creation and its last use are ms since the epoch;
-- names are the digests under which it lies or may come to lie, by commas; the note is all
-- the rest.
-- A session lives no longer than its entry, so whoever reads all entries finds all sessions.

local function entry_in(text)
  local state, till, bound, created, used, names, note =
    string.match(text or '', '^([012]) (%d+) (%d+) (%d+) (%d+) (%S*) (.*)$')
  return state and {doomed = state == '1', joins = state == '2', till = tonumber(till),
    bound = tonumber(bound), created = tonumber(created), used = tonumber(used),
    names = names, note = note}
end

local function text_of(entry)
  local state = entry.doomed and 1 or entry.joins and 2 or 0
  return string.format('%.0f %.0f %.0f %.0f %.0f ', state, entry.till, entry.bound,
    entry.created, entry.used) .. entry.names .. ' ' .. entry.note
end

-- Returns the names with one more, or without one.
local function with(names, name)
  if string.find(',' .. names .. ',', ',' .. name .. ',', 1, true) then return names end
  return names == '' and name or names .. ',' .. name
end

local function without(names, name)
  local left = ''
  for other in string.gmatch(names, '[^,]+') do
    if other ~= name then left = with(left, other) end
  end
  return left
end

-- Returns a table of words slot, entry, ... from a place on to the last but one.
local function texts_in(words, first)
  local texts = {}
  for i = first, #words - 1, 2 do texts[words[i]] = words[i + 1] end
  return texts
end

-- Returns the entries by slot. Those whose time is over are dropped, and the index lives
-- as long as the last of the others; unless the server takes no writes.
local function entries_of(index)
  local flat, found, now, last = redis.call('HGETALL', index), {}, now_ms(), 0
  for i = 1, #flat, 2 do
    local entry = entry_in(flat[i + 1])
    if entry and entry.till > now then
      found[flat[i]] = entry
      last = math.max(last, entry.till)
    else
      redis.pcall('HDEL', index, flat[i])
    end
  end
  if last > 0 then redis.pcall('PEXPIREAT', index, string.format('%.0f', last)) end
  return found
end
