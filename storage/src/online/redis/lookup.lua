-- Reads cells of one or many shards, and of each the nodes on the ways to some places.
-- KEYS: cells, nodes, of each shard
-- ARGV: places (layout.rs, places_value), then for each shard the number of its keys, and the keys
-- Reply: for each shard {witness, root, {id, node, id, node, ...}, root, {...}, ...}; a missing
--        value is nil, a missing node empty.
-- Numbers of eight bytes are pairs of halves: a double has 53 bits, strings are in the locale's order.
local read = struct.unpack
local entry_bytes = 28

local places = {}
local at = 1
while at <= #ARGV[1] do
  local kind = string.sub(ARGV[1], at, at)
  local a1, a2, b1, b2 = read('>I4I4I4I4', ARGV[1], at + 1)
  local place = {kind = kind, a1 = a1, a2 = a2, b1 = b1, b2 = b2}
  at = at + 17
  if kind == 'B' then
    local c1, c2 = read('>I4I4', ARGV[1], at)
    place.from = b1 * 4294967296 + b2
    place.to = c1 * 4294967296 + c2
    at = at + 8
  end
  places[#places + 1] = place
end

-- The first entry that is not before (t1, t2): with `after`, whose last time is greater; otherwise
-- at least as great. count + 1 if there is none.
local function by_time(value, base, count, t1, t2, after)
  local low, high = 1, count + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local e1, e2 = read('>I4I4', value, base + entry_bytes * (middle - 1))
    local less = e1 < t1 or (e1 == t1 and (e2 < t2 or (after and e2 == t2)))
    if less then low = middle + 1 else high = middle end
  end
  return low
end

local function before(a, b)
  if a.a1 ~= b.a1 then return a.a1 < b.a1 end
  if a.a2 ~= b.a2 then return a.a2 < b.a2 end
  if a.b1 ~= b.b1 then return a.b1 < b.b1 end
  return a.b2 < b.b2
end

-- The first entry whose last order is not less than (t, p); the last one if there is none.
local function by_order(value, base, count, place)
  local low, high = 1, count
  while low < high do
    local middle = math.floor((low + high) / 2)
    local t1, t2, p1, p2 = read('>I4I4I4I4', value, base + entry_bytes * (middle - 1))
    local less
    if t1 ~= place.a1 then less = t1 < place.a1
    elseif t2 ~= place.a2 then less = t2 < place.a2
    elseif p1 ~= place.b1 then less = p1 < place.b1
    else less = p2 < place.b2 end
    if less then low = middle + 1 else high = middle end
  end
  return low
end

local function rows_of(value, base, index)
  local r1, r2 = read('>I4I4', value, base + entry_bytes * (index - 1) + 16)
  return r1 * 4294967296 + r2
end

-- The nodes of one cell, whose root value has node 0 at `start`.
local function cell(nodes_key, key, value, start)
  local found = {}
  local prefix = struct.pack('>I4', #key) .. key
  local seen = {}
  local function child_of(value, base, index)
    local id = string.sub(value, base + entry_bytes * index - 4, base + entry_bytes * index - 1)
    local node = seen[id]
    if node == nil then
      node = redis.call('HGET', nodes_key, prefix .. id)
      seen[id] = node
      -- A node that its parent names and that is not there: an empty value says so.
      found[#found + 1] = id
      found[#found + 1] = node or ''
    end
    return node
  end

  local function head(value, start)
    return start + 3, read('>I2', value, start + 1)
  end

  local function at(place, value, start, rows)
    local base, count = head(value, start)
    if count == 0 then return rows end
    local index = by_time(value, base, count, place.a1, place.a2, place.after)
    if place.kind == 'B' then
      for passed = 1, math.min(index - 1, count) do rows = rows + rows_of(value, base, passed) end
    end
    if index > count then place.boundary = 0 return rows end
    if place.kind == 'B' then place.boundary = rows_of(value, base, index) end
    local node = child_of(value, base, index)
    if node then return at(place, node, 1, rows) end
    return rows
  end

  -- The leaf of the last place, by the last order in it: many places in order have the same one.
  local order_of, bound
  local function order(place, value, start)
    local base, count = head(value, start)
    if count == 0 then return end
    local index = by_order(value, base, count, place)
    local b1, b2, c1, c2 = read('>I4I4I4I4', value, base + entry_bytes * (index - 1))
    order_of, bound = place, {a1 = b1, a2 = b2, b1 = c1, b2 = c2}
    -- After all events: so are the places that follow.
    if before(bound, place) then bound.a1 = math.huge end
    local node = child_of(value, base, index)
    if node then order(place, node, 1) end
  end

  local function range(place, value, start)
    local base, count = head(value, start)
    if count == 0 then return end
    local low = by_time(value, base, count, place.a1, place.a2, false)
    local high = math.min(by_time(value, base, count, place.b1, place.b2, true), count)
    for index = low, high do
      local node = child_of(value, base, index)
      if node then range(place, node, 1) end
    end
  end

  -- The leaves with the ranks low..high, where `passed` rows are before this node.
  local function ranks(low, high, value, start, passed)
    local base, count = head(value, start)
    for index = 1, count do
      local rows = rows_of(value, base, index)
      if passed + rows >= low and passed < high then
        local node = child_of(value, base, index)
        if node then ranks(low, high, node, 1, passed) end
      end
      passed = passed + rows
      if passed >= high then return end
    end
  end

  for i = 1, #places do
    local place = places[i]
    if place.kind == 'A' then
      place.after = place.b2 == 1
      at(place, value, start, 0)
    elseif place.kind == 'O' then
      local same = order_of and not before(place, order_of) and not before(bound, place)
      if not same then order(place, value, start) end
    elseif place.kind == 'R' then
      range(place, value, start)
    elseif place.kind == 'B' then
      -- Of the boundary's leaf, between none and all events count: both cases are covered.
      place.after = true
      place.boundary = 0
      local passed = at(place, value, start, 0)
      local low = math.max(1, passed - place.to + 1)
      local high = passed + place.boundary - place.from + 1
      if high >= low then ranks(low, high, value, start, 0) end
    end
  end
  return found
end

-- One shard, whose keys are ARGV[first..last].
local function shard(cells_key, nodes_key, first, last)
  local reply = {}
  local step = 1000
  repeat
    local fields = {''}
    for i = first, math.min(first + step - 1, last) do fields[#fields + 1] = ARGV[i] end
    local values = redis.call('HMGET', cells_key, unpack(fields))
    reply[1] = values[1]
    for i = 2, #fields do
      local root = values[i]
      local nodes = {}
      if root and #places > 0 and read('>I4', root, 2) > 0 then
        nodes = cell(nodes_key, fields[i], root, 10)
      end
      reply[#reply + 1] = root
      reply[#reply + 1] = nodes
    end
    first = first + step
  until first > last
  return reply
end

local replies = {}
local first = 2
for i = 1, #KEYS, 2 do
  local count = tonumber(ARGV[first])
  replies[#replies + 1] = shard(KEYS[i], KEYS[i + 1], first + 1, first + count)
  first = first + 1 + count
end
return replies
