"""The story corpus at hand everywhere: the text of its grammar, in the notation of :mod:`lib.data.grammar`.

A hero and a friend, each an animal with a name, a home and a favourite food, live near a place.  One of six
things happens, and what is chosen early (names, pronouns, things, colours, tools) returns to the end.
"""

#: A name without indentation, then what it may become, each with its weight (1 where none is given).
RULES = """
STORY
    [hero friend: name] [kind pal: animal] [trait: trait] [place: place] OPENING FRIEND PLOT JOY CLOSE

OPENING
    4: Once upon a time, there was a {trait} {kind} named {hero}. / {Hero.he} lived in a {kind.home} <near> {place}. HABIT
    3: Once upon a time, a {trait} {kind} named {hero} lived in a {kind.home} <near> {place}. HABIT
    2: {hero} was a {trait} {kind}. / {Hero.his} home was a {kind.home} <near> {place}. HABIT
    1: In a {kind.home} <near> {place}, there lived a {trait} {kind}. / {Hero.his} name was {hero}. HABIT
near
    3: near
    2: close to
HABIT
    3: -
    2: {Hero.he} liked to eat {kind.food} and <play> <outside>.
    2: Every <time>, {hero.he} ate {kind.food} and went for a walk.
    1: {Hero.he} loved {kind.food} more than anything else.
    1: Everyone {place.in} liked the {trait} {kind}.
play
    play
    run
    sleep
outside
    2: {place.in}
    2: all day
    1: in the sun
time
    3: day
    2: morning
    1: evening

FRIEND
    3: {Hero.his} best friend was a {pal} named {friend}. TOGETHER
    2: {hero} had a good friend, a {pal} named {friend}. TOGETHER
    2: A {pal} named {friend} lived in a {pal.home} next door. TOGETHER
    1: {hero} liked to <play> with a {pal} named {friend}. TOGETHER
TOGETHER
    4: -
    2: They did everything together.
    1: They told each other long stories.
    1: {friend} always had some {pal.food} for {hero.him}.
    1: Every <time>, they ate {kind.food} and {pal.food}.

PLOT
    3: LOST
    3: STUCK
    2: BAKE
    2: BUILD
    2: LEARN
    2: SHARE
one
    4: One <time>
    2: One <weather> <time>
    1: Then, one <time>
weather
    3: sunny
    2: cold
SAD
    3: -
    2: {hero} felt <very> sad.
    2: {Hero.he} began to cry.
    1: {Hero.he} did not know what to do.
    1: The {trait} {kind} sat down {place.spot} and cried <long>.
very
    2: very
    1: so
said
    3: said
    2: called
    1: shouted

LOST
    [colour: colour] [thing: toy] TREASURE GONE SAD ASK SEARCH FOUND THANKS
TREASURE
    2: {hero} had a {colour} {thing} and took it everywhere.
    2: {hero} had many things, but {hero.he} loved {hero.his} {colour} {thing} best.
    1: For {hero.his} birthday, {hero} got a {colour} {thing}. / {Hero.he} was <very> happy.
GONE
    2: <one>, the {thing} was gone.
    2: <one>, {hero} could not find the {thing}.
    1: <one>, {hero} saw that the {thing} was not there.
ASK
    2: "Have you seen my {thing}?" {hero} asked {friend}. / "No, but I will help you look for it," {friend.he} said.
    2: {hero} told {friend} everything. / "Do not worry," said the {pal}. / "We will find your {thing} together."
    2: "Why are you so sad?" asked {friend}. / "I lost my {colour} {thing}," said {hero}. / "Let us look for it!"
SEARCH
    2: They looked in the {kind.home}, but it was not there.
    2: First they looked in the {kind.home}. / Then they looked in the {pal.home}, but the {thing} was not there.
    2: They looked and looked <long>.
long
    2: all day
    2: for a long time
    1: until the sun went down
FOUND
    2: At last, {friend} found the {thing} {place.spot}.
    2: Then {hero} saw something {colour} {place.spot}. / It was the {thing}!
    2: "Look, there is something {colour} {place.spot}!" {friend} <said>. / It was the {thing}!

STUCK
    [colour: colour] [thing: toy] [perch: perch] [tool: tool] TOY HIGH TRY SAD TOOL DOWN THANKS
TOY
    2: <one>, {hero} was playing with a {colour} {thing} {place.in}.
    2: <one>, {hero} took {hero.his} new {thing} to {place}. / It was {colour}, and {hero.he} loved it <very> much.
    1: <one>, {hero} and {friend} found a {colour} {thing} {place.spot}. / They played with it <long>.
HIGH
    2: A strong wind took the {thing} and left it high up {perch.on}.
    2: {hero} threw the {thing} too high, and it got stuck {perch.on}.
    1: Then a bird took the {thing} and left it {perch.on}.
TRY
    2: {hero} jumped and jumped, but {perch} was too high.
    2: {Hero.he} tried to climb up, but {hero.he} fell down.
    1: "I can not get it down from {perch}," said the {kind}.
TOOL
    2: {friend} saw this and came with a {tool}.
    2: {hero} asked {friend} for help. / "I have a {tool} at home," said the {pal}, and {friend.he} ran to get it.
    2: "We can use my {tool}," {friend} <said>.
DOWN
    2: {friend} held the {tool}, and {hero} climbed up to get the {thing}.
    2: With the {tool}, they got the {colour} {thing} down from {perch}.
    1: {hero} held the {tool}, and {friend} climbed up. / "This is your {thing}!" {friend.he} <said>.

BAKE
    [dish: dish] [missing: ingredient] [helper: helper] WISH LACK HELPER MADE TASTE
WISH
    2: <one>, it was the birthday of {friend}, and {hero} wanted to make a {dish} for {friend.him}.
    2: <one>, {friend} was <very> sad. / "I will make a {dish} for {friend}," said {hero}.
    1: <one>, {hero} wanted to make a {dish} and eat it with {friend}.
LACK
    2: But there was no {missing} in the {kind.home}.
    2: {Hero.he} looked everywhere, but {hero.he} could not find any {missing}.
    1: "Oh no, I have no {missing}!" {hero.he} <said>.
HELPER
    2: {hero} met an old {helper} {place.in}. / "Do you have some {missing}?" {hero.he} asked. / <yes> said the {helper}.
    2: An old {helper} {place.in} gave {hero.him} some {missing}. KIND
    1: {hero} went to {place} and asked an old {helper} for {missing}. / <yes> said the {helper}.
yes
    2: "Yes, take some,"
    1: "Yes, if you give me some {kind.food},"
KIND
    2: -
    1: {Hero.he} said thank you to the {helper}.
    1: "I want to make a {dish} for {friend}," {hero.he} said to the {helper}.
MADE
    2: {hero} ran home and made the {dish}. / It was <very> good.
    2: Then {hero} put the {missing} in the {dish}.
    1: Soon the {dish} was ready.
TASTE
    2: "This is the best {dish} in the world!" {friend} <said>.
    2: When {friend} ate the {dish}, {friend.he} was <very> happy.
    1: {hero} and {friend} ate the {dish} together {place.in}. / They gave some of it to the {helper}, too.

BUILD
    [work: work] [weak: weak] [strong: strong] PLAN BREAK SAD ADVICE DONE THANKS
PLAN
    2: <one>, {hero} wanted to build a {work}. / {Hero.he} made it out of {weak}.
    2: "I will build a {work} out of {weak}," {hero} said <one_day>. / {Hero.he} worked <long>.
    1: <one>, {hero} found some {weak} {place.spot}. / Then {hero.he} built a {work} out of the {weak}.
one_day
    2: one <time>
    1: to {friend}
BREAK
    2: But the wind was <very> strong, and the {work} fell down.
    2: Then it began to rain, and soon the {work} was gone.
    1: But when it was ready, the {work} broke in two.
ADVICE
    2: "You need something better than {weak}," said {friend}. / "Let us use {strong}."
    2: {friend} came with a lot of {strong}. / "Let us try again," {friend.he} said.
    1: "I have a lot of {strong} at home," said the {pal}, and {friend.he} ran to get some.
DONE
    2: Together, they built a new {work} out of {strong}. / This time, it did not fall down.
    2: They worked <long>, and the new {work} was strong.
    1: Soon there was a big {work} {place.in}. / The wind came back, but it did not fall down.

LEARN
    [skill: skill] DREAM FAIL TEACH PRACTICE SUCCESS THANKS
DREAM
    2: {friend} could {skill} very well, but {hero} could not.
    2: More than anything, {hero} wanted to learn to {skill}.
    1: <one>, {hero} saw {friend} {skill} {place.in}. / "I want to {skill}, too!" {hero.he} <said>.
FAIL
    2: {Hero.he} tried and tried, but {hero.he} could not do it.
    2: {Hero.he} tried to {skill} <long>, but it did not work.
    1: "I will never learn to {skill}," said the {kind}. SAD
TEACH
    2: "Look at me," said {friend}, and {friend.he} {skill.past}. / "Now you try!"
    2: "I will help you," said the {pal}. / "I did not learn {skill.ing} in one day."
    1: {hero} asked {friend} for help. / {Friend.he} {skill.past} and {skill.past}, and {hero} looked at {friend.him}.
PRACTICE
    2: They went {skill.ing} together every <time>.
    2: For <number> days, they did nothing but {skill}.
    1: {hero} had to try <number> times.
number
    two
    three
    seven
SUCCESS
    2: At last, {hero} {skill.past} and {skill.past} <long>.
    2: "I can {skill}!" {hero} <said> <one_day>.
    1: Then {hero} {skill.past} better than everyone else {place.in}.

SHARE
    [treat: treat] FIND QUARREL ANGRY SORRY BOTH
FIND
    2: <one>, {hero} and {friend} found a big {treat} {place.spot}.
    2: <one>, they went to {place} and saw a {treat} {place.spot}.
    1: [helper: helper] <one>, an old {helper} gave a {treat} to {hero} and {friend}.
QUARREL
    2: "I saw it first!" {hero} <said>. / "No, it is my {treat}!" said {friend}.
    2: {hero} wanted to eat the {treat}, and {friend} wanted it, too.
    1: "Give me the {treat}!" {hero} <said> to the {pal}.
ANGRY
    2: {hero} got angry and ran back to the {kind.home}. SAD
    2: They did not play together <long>. SAD
    1: {friend} began to cry and went back to the {pal.home}.
SORRY
    3: "I am sorry," {hero} said to {friend}. / "I am sorry, too," said the {pal}.
    2: Then {hero} gave the {treat} to {friend}. / "You can have it," {hero.he} said.
    1: "You are my best friend," {friend} said. / "I like you more than any {treat}."
BOTH
    2: They broke the {treat} in two and ate it together {place.in}.
    2: {hero} and {friend} ate the {treat} together.
    1: They ate the {treat} with some {kind.food} and {pal.food}.

THANKS
    3: -
    2: "Thank you, {friend}!" {hero} <said>.
    2: "You are a good friend," said the {kind}.
    1: To say thank you, {hero} gave {friend.him} some {pal.food}.
JOY
    2: {hero} was <very> happy.
    2: {hero} and {friend} laughed and danced {place.in}.
    1: The {trait} {kind} gave the {pal} a big hug.
    1: "You are the best {pal} in the world," said {hero}.
    1: "I like you more than {kind.food}," {hero} <said>.
    1: -
CLOSE
    2: From that day on, {hero} and {friend} <always>.
    2: That evening, {hero} went back to {hero.his} {kind.home} and slept <very> well.
    2: {hero} had learned that <lesson>.
    2: The {kind} and the {pal} lived happily ever after.
    1: And {hero} never lost {hero.his} best friend again.
always
    2: always helped each other
    1: shared everything
    1: went to {place} every <time>
lesson
    2: a good friend is the best thing in the world
    1: it is good to ask for help
    1: everything is better with a friend
"""
